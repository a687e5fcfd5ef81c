"""Timing: the shortest of a few, after one that does not count: what else the machine does only makes them longer."""

import time
from collections.abc import Callable

import torch

TIMES = 5
ASLEEP = 100_000_000
"""Cycles of a GPU, some 50 ms: time to launch what it computes afterwards without a gap."""


def host_seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes, the GPU's part of it included."""
    taken = []
    for _ in range(1 + TIMES):
        begun = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begun)
    return min(taken[1:])


def gpu_seconds(work: Callable[[], object]) -> float:
    """How long the GPU computes at ``work``, which is some hundred kernels at the most, once all are launched."""
    taken: list[float] = []
    for _ in range(1 + TIMES):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        torch.cuda._sleep(ASLEEP)  # type: ignore[no-untyped-call]
        begin.record()
        work()
        end.record()
        end.synchronize()
        taken.append(begin.elapsed_time(end) / 1000)
    return min(taken[1:])
