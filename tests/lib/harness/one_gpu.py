"""``harness.rank harness.one_gpu FOLDER``: one process trains small engines on its GPU as a run does, and saves.

Prints a line of JSON: torch's backend; what the process held outside torch's memory at its first kernel and after each
engine, in MiB; and whether a collective is ordered by its handle between two streams.
"""

import json
import sys
from pathlib import Path

import torch
from deepspeed import comm as dist

from harness.small_engines import CPU, new_engine, train
from launcher.machine.process_memory import ProcessMemory
from launcher.train.distributed import World
from launcher.train.extensions import TORCH_ADAM
from launcher.train.memory import MemoryMeter

CASES = {
    "zero0": {"stage": 0},
    "zero1": {"stage": 1},
    "zero2-cpu": {"stage": 2, **CPU},
    "zero3": {"stage": 3},
    "zero3-cpu-params": {"stage": 3, "offload_param_device": "cpu", **CPU},
}


def ordered_by_its_handle(device: torch.device) -> bool:
    """Whether who waits for a collective of another stream sees its result, and the handle knows when it is there."""
    given, got = (torch.zeros(1024, device=device) for _ in range(2))
    other = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(other):
        torch.cuda._sleep(200_000_000)  # a tenth of a second
        given.fill_(1)
        handle = dist.all_gather_into_tensor(got, given, async_op=True)
    early = handle.is_completed()
    handle.wait()
    total = float(got.sum())
    return not early and total == 1024 and handle.is_completed()


def main() -> None:
    process = ProcessMemory()
    world = World.join()
    meter = MemoryMeter(world.device, process)

    def outside() -> int:
        torch.cuda.synchronize()
        held = meter.now()
        return held.process - held.reserved

    torch.zeros(1, device=world.device)
    told = {"backend": torch.distributed.get_backend(), "context": outside()}
    trained = {}
    for name, case in CASES.items():
        engine = new_engine(world, precision="bf16", overrides=TORCH_ADAM, **case)
        train(engine, 2, torch.bfloat16)
        engine.save(Path(sys.argv[1]) / name)
        trained[name] = outside()
    print(json.dumps({**told, "trained": trained, "ordered": ordered_by_its_handle(world.device)}))
    world.close()
