"""``harness.rank harness.gpu_fetching JOB``: how much of a GPU weights take that come faster than it computes.

Leaves ``told.json`` beside JOB: MiB that a forward pass holds at the most, with this launcher's optimizer and with
DeepSpeed's own.
"""

import contextlib
import gc
import json
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from deepspeed.runtime.zero.partition_parameters import Init

from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.train import deepspeed_engine
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.distributed import World

WIDTH, LAYERS, STEPS = 2048, 16, 4
CYCLES = 40_000_000
"""Of each layer, a fiftieth of a second: its weights come in a hundredth of that."""
LIVE, AHEAD = 10_000_000, 4_200_000
MIB = 2**20


class Slow(torch.nn.Linear):
    def forward(self, given):
        torch.cuda._sleep(CYCLES)
        return super().forward(given)


class Layers(torch.nn.Module):
    """Called as the U-Net is."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(Slow(WIDTH, WIDTH) for _ in range(LAYERS))

    def forward(self, sample, timestep):
        for layer in self.layers:
            sample = torch.nn.functional.silu(layer(sample * timestep))
        return sample


def most_held(ours: bool) -> float:
    settings = DeepSpeedSettings(
        stage=3,
        offload_param_device="cpu",
        reduce_bucket_size=4_300_000,
        stage3_prefetch_bucket_size=AHEAD,
        stage3_max_live_parameters=LIVE,
        stage3_max_reuse_distance=0,
        stage3_param_persistence_threshold=0,
    )
    config = to_deepspeed_json(settings, train_batch_size=2, learning_rate=1e-4, warmup_steps=1, total_steps=STEPS)
    Init.param_id = 0
    never = patch.object(deepspeed_engine, "replacing_deepspeeds", lambda config: contextlib.nullcontext())
    with contextlib.nullcontext() if ours else never:
        engine = DeepSpeedEngine(Layers().bfloat16(), config)
    sample, timestep = torch.randn(2, WIDTH).cuda().bfloat16(), torch.ones((), device="cuda", dtype=torch.bfloat16)
    for _ in range(STEPS):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_stats()["active_bytes.all.current"]
        loss = engine(sample, timestep).float().square().mean()
        torch.cuda.synchronize()
        held = torch.cuda.memory_stats()["active_bytes.all.peak"] - before
        engine.backward(loss)
        engine.step()
    return held / MIB


def main() -> None:
    path = Path(sys.argv[1])
    world = World.join()
    told = {}
    for name, ours in (("theirs", False), ("ours", True)):
        told[name] = most_held(ours)
        gc.collect()
    (path.parent / "told.json").write_text(json.dumps(told))
    world.close()


if __name__ == "__main__":
    main()
