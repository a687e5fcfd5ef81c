"""``harness.rank harness.many_collectives JOB``: small engines in one process whose collectives go through gloo.

What :func:`exercise` tells of each of :data:`CASES` is left in ``told.pt`` beside JOB. A process that joined as
training does has to tell the same.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from deepspeed.comm import init_distributed
from torch.profiler import ProfilerActivity, profile

from harness.small_engines import CPU, DTYPES, masters, new_engine, train
from launcher.train.distributed import World, unlink_shared_memory

CASES: dict[str, dict[str, Any]] = {
    "stage 0": {"stage": 0},
    "stage 0 in fp32": {"stage": 0, "precision": "no"},
    "stage 1": {"stage": 1},
    "stage 1 on the CPU": {"stage": 1, **CPU},
    "stage 2": {"stage": 2},
    "stage 2 on the CPU": {"stage": 2, **CPU},
    "stage 2, overlapped": {"stage": 2, "overlap_comm": True, **CPU},
    "stage 3": {"stage": 3},
    "stage 3 on the CPU": {"stage": 3, **CPU},
    "stage 3, parameters on the CPU": {"stage": 3, "offload_param_device": "cpu", **CPU},
    "stage 3, Muon": {"stage": 3, "optimizer_type": "Muon", "gradient_clipping": 0.0},
}
STEPS = 3


@dataclass(frozen=True)
class Told:
    """Of one case: what training came to, and by which of torch's collectives."""

    losses: list[float]
    norms: list[float | None]
    masters: dict[str, torch.Tensor]
    collectives: set[str]


def collectives(recorded: profile) -> set[str]:
    """Those that reached a process group of torch's: all go through operators of ``c10d``, whoever calls them."""
    return {event.key for event in recorded.key_averages() if event.key.startswith(("c10d::", "gloo:", "nccl:"))}


def exercise(world: World, case: dict[str, Any], folder: Path) -> Told:
    """Starts an engine, trains, saves, loads the checkpoint into another and trains that."""
    settings = {"precision": "bf16", **case}
    dtype = DTYPES[settings["precision"]]
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        engine = new_engine(world, **settings)
        losses = train(engine, STEPS, dtype)
        norms = [engine.gradient_norm]
        engine.save(folder)
        resumed = new_engine(world, **settings)
        resumed.load(folder)
        losses += train(resumed, STEPS, dtype, first=STEPS)
        norms.append(resumed.gradient_norm)
        last = masters(resumed)
    return Told(losses, norms, last, collectives(recorded))


def main() -> None:
    job = Path(sys.argv[1])
    init_distributed("gloo")
    unlink_shared_memory()
    world = World(rank=0, world_size=1, device=torch.device("cpu"))
    told = {}
    for name, case in CASES.items():
        folder = job.parent / name
        folder.mkdir()
        told[name] = vars(exercise(world, case, folder))
    torch.save(told, job.parent / "told.pt")
    world.close()
