"""``python benchmarks/random_sdxl.py OUT``: SDXL 1.0's true architecture with random weights, and pictures.

OUT/model is a diffusers pipeline folder with every size of SDXL base 1.0 (U-Net in bf16, the rest in fp32), which is
all that memory and speed depend on; OUT/pictures are pictures of about 1024 x 1024 pixels in four aspects, with
captions. Nothing is downloaded. On a GPU it takes seconds, without one minutes.
"""

import sys
from itertools import islice, product
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from launcher.train.demo.sprites import BACKGROUNDS, COLOURS, THINGS, caption, draw_sprite
from launcher.train.demo.tokenizer import MAX_LENGTH, make_tokenizer

UNET = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
    "use_linear_projection": True,
    "layers_per_block": 2,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 1024,
    "scaling_factor": 0.13025,
    "force_upcast": True,
}
SHARED_BY_ENCODERS = {
    "vocab_size": 49408,
    "max_position_embeddings": MAX_LENGTH,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
ENCODER = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
ENCODER_2 = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
SIZES = ((1024, 1024), (1216, 832), (832, 1216), (1344, 768))
"""Width and height, each for eight pictures: as many as a step takes."""


def make_model(folder: Path) -> None:
    torch.manual_seed(0)
    captions = [caption(*names) for names in product(THINGS, COLOURS, BACKGROUNDS)]
    tokenizers = [make_tokenizer(captions, merges=160, pad_token=token) for token in ("<|endoftext|>", "!")]
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        encoder = CLIPTextModel(
            CLIPTextConfig(hidden_act="quick_gelu", projection_dim=768, **SHARED_BY_ENCODERS, **ENCODER)
        )
        encoder_2 = CLIPTextModelWithProjection(
            CLIPTextConfig(hidden_act="gelu", projection_dim=1280, **SHARED_BY_ENCODERS, **ENCODER_2)
        )
        vae = AutoencoderKL(**VAE)
        torch.set_default_dtype(torch.bfloat16)
        unet = UNet2DConditionModel(**UNET)
        torch.set_default_dtype(torch.float32)
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=encoder,
        text_encoder_2=encoder_2,
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)


def draw_pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, names in enumerate(islice(product(THINGS, COLOURS, BACKGROUNDS), 8 * len(SIZES))):
        draw_sprite(*names).resize(SIZES[number // 8], Image.Resampling.NEAREST).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(caption(*names))


if __name__ == "__main__":
    out = Path(sys.argv[1])
    draw_pictures(out / "pictures")
    if not (out / "model" / "model_index.json").exists():
        make_model(out / "model")
