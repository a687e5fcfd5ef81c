"""A tiny SDXL: the true classes at small widths, saved as an ordinary pipeline folder."""

from itertools import product
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from launcher.train.demo.sprites import BACKGROUNDS, COLOURS, THINGS, caption
from launcher.train.demo.tokenizer import MAX_LENGTH, make_tokenizer
from launcher.train.demo.vae import train_vae

TEXT_WIDTHS = (32, 64)
"""Hidden sizes of the two text encoders; SDXL's are 768 and 1280."""

WORD_SPREAD = 50
"""How much further apart than CLIP's initial 0.02 the encoders' words lie."""

TIME_ID_WIDTH = 16
"""Width that each of the six time ids is embedded in; SDXL's is 256."""


def make_tiny_sdxl(folder: Path, seed: int = 0) -> None:
    """Writes the pipeline folder: a VAE that knows the sprites, and random weights everywhere else.

    Args:
        folder: becomes what ``StableDiffusionXLPipeline.from_pretrained`` loads.
        seed: of the weights; the same one gives the same bytes on the same machine.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = _vae()
        train_vae(vae, seed)
        tokenizers = _tokenizers()
        encoders = _text_encoders(len(tokenizers[0]))
        pipeline = StableDiffusionXLPipeline(
            vae=vae,
            text_encoder=encoders[0],
            text_encoder_2=encoders[1],
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
            unet=_unet(),
            scheduler=_scheduler(),
            add_watermarker=False,
        )
    pipeline.save_pretrained(folder, safe_serialization=True)
    for name in ("tokenizer", "tokenizer_2"):
        # The files that SDXL 1.0 has, in place of the one that transformers writes today.
        getattr(pipeline, name).backend_tokenizer.model.save(str(folder / name))
        (folder / name / "tokenizer.json").unlink()


def _unet() -> Any:
    """SDXL's shape: text and time conditioning, no attention at the first level, linear projections."""
    widths = (32, 48, 64)
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=widths,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=[1, 1, 2],
        attention_head_dim=[1, 3, 4],  # the number of heads, as in every SDXL config
        cross_attention_dim=sum(TEXT_WIDTHS),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_ID_WIDTH,
        projection_class_embeddings_input_dim=TEXT_WIDTHS[1] + 6 * TIME_ID_WIDTH,
        norm_num_groups=16,
    )


def _vae() -> Any:
    """Downscales by 4: one latent pixel for each square of the pixel art."""
    return AutoencoderKL(
        block_out_channels=(16, 16, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
    )


def _tokenizers() -> list[Any]:
    """SDXL's second tokenizer pads with '!', which is id 0; the first with the end token."""
    captions = [caption(*names) for names in product(THINGS, COLOURS, BACKGROUNDS)]
    return [make_tokenizer(captions, merges=160, pad_token=token) for token in ("<|endoftext|>", "!")]


def _text_encoders(vocabulary: int) -> list[Any]:
    shared = {
        "vocab_size": vocabulary,
        "max_position_embeddings": MAX_LENGTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        # What SDXL's configs say: the end of the text is then found as its highest id.
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    }
    first, second = TEXT_WIDTHS
    encoders = [
        CLIPTextModel(
            CLIPTextConfig(
                hidden_size=first,
                intermediate_size=2 * first,
                hidden_act="quick_gelu",
                projection_dim=first,
                **shared,
            )
        ),
        CLIPTextModelWithProjection(
            CLIPTextConfig(
                hidden_size=second,
                intermediate_size=2 * second,
                hidden_act="gelu",
                projection_dim=second,
                **shared,
            )
        ),
    ]
    for encoder in encoders:
        # Untrained, all words lie close together, and a caption would hardly differ from another.
        encoder.get_input_embeddings().weight.data.mul_(WORD_SPREAD)
    return encoders


def _scheduler() -> Any:
    """As SDXL base 1.0 has it."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        prediction_type="epsilon",
        interpolation_type="linear",
        timestep_spacing="leading",
        steps_offset=1,
        use_karras_sigmas=False,
    )
