"""``harness.rank harness.gpu_offloads JOB``: trains the tiny SDXL's U-Net on GPUs with both kinds of ZeRO optimizers.

JOB is a JSON file: the model's folder, and by name cases of settings and which optimizers. Rank 0 leaves ``told.json``
with losses, gradient norms, whether weights were updated and how often each micro-batch's backward pass summed up over
the ranks beside it. In the third step gradients of the last rank's first micro-batch are not finite.
"""

import contextlib
import gc
import json
import sys
from pathlib import Path
from unittest.mock import patch

import deepspeed.comm as dist
import torch
from deepspeed.runtime.zero.partition_parameters import Init

from harness.tiny_zero import TINY
from launcher.config import engine as engine_config
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.train import deepspeed_engine
from launcher.train.activations import checkpoint_activations
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.distributed import World
from launcher.train.models import ModelSource
from launcher.train.offload.stage_1_and_2 import Stage1And2

STEPS, BAD, ACCUMULATION = 5, 2, 3
LATE = 4_000_000
"""Cycles, two thousandths of a second: a backward pass of the tiny SDXL is long over when the last bucket leaves."""
HAND_OVER = Stage1And2._hand_over


def hand_over_late(optimizer: Stage1And2, *bucket: object) -> None:
    torch.cuda._sleep(LATE)  # of the stream that brings gradients to the host
    HAND_OVER(optimizer, *bucket)


def train(world: World, model: ModelSource, settings: dict, *, ours: bool) -> dict:
    chosen = {**TINY, "stage3_param_persistence_threshold": 0, "gradient_clipping": 0.5, **settings}
    settings = DeepSpeedSettings(**chosen, precision="bf16", gradient_accumulation_steps=ACCUMULATION)
    config = to_deepspeed_json(settings, train_batch_size=2, learning_rate=1e-3, warmup_steps=1, total_steps=STEPS)
    Init.param_id = 0
    torch.manual_seed(0)
    unet = model.unet(torch.bfloat16)
    checkpoint_activations(unet, "all")
    never = patch.object(deepspeed_engine, "replacing_deepspeeds", lambda config: contextlib.nullcontext())
    with patch.object(engine_config, "GROUP_ELEMENTS", 200_000), contextlib.nullcontext() if ours else never:
        engine = DeepSpeedEngine(unet, config)
    told = {"class": type(engine._optimizer).__name__, "losses": [], "norms": [], "updated": [], "reduced": []}
    generator = torch.Generator().manual_seed(1 + world.rank)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(world.device, torch.bfloat16)

    for step in range(STEPS):
        for micro in range(ACCUMULATION):
            added = {"text_embeds": drawn(2, pooled_width(unet)), "time_ids": torch.full((2, 6), 64.0).to(world.device)}
            predicted = engine(
                drawn(2, 4, 16, 16),
                torch.tensor([100 * step + 7, 900 - 100 * step], device=world.device),
                encoder_hidden_states=drawn(2, 9, unet.config.cross_attention_dim),
                added_cond_kwargs=added,
            ).sample
            loss = (predicted.float() - drawn(2, 4, 16, 16).float()).square().mean()
            told["losses"].append(loss.item())
            bad = (step, micro, world.rank) == (BAD, 0, world.world_size - 1)
            with patch.object(dist, "all_reduce", wraps=dist.all_reduce) as reduced:
                engine.backward(loss * float("nan") if bad else loss)
            told["reduced"].append(reduced.call_count)
            engine.step()
        told["norms"].append(engine.gradient_norm)
        told["updated"].append(engine.updated)
    return told


def pooled_width(unet: torch.nn.Module) -> int:
    """Of the pooled prompt, beside which six sizes are embedded."""
    return unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim


def main() -> None:
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    world = World.join()
    model = ModelSource(Path(job["model"]), Path(job["model"]) / "vae")
    told = {}
    for name, settings in job["cases"].items():
        late = settings.pop("late", False)
        with patch.object(Stage1And2, "_hand_over", hand_over_late if late else HAND_OVER):
            told[name] = [train(world, model, settings, ours=ours) for ours in (True, False)]
        gc.collect()
    if world.is_main:
        (path.parent / "told.json").write_text(json.dumps(told))
    world.close()


if __name__ == "__main__":
    main()
