"""What one optimizer step took and used: seconds by phase, memory by rank."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil
import torch

from launcher.train.distributed import World

MIB = 2**20


@dataclass(slots=True)
class StepClock:
    """Seconds of a step by phase, without making the device wait: CUDA events where there is CUDA."""

    device: torch.device
    _spans: list[tuple[str, "torch.cuda.Event | float", "torch.cuda.Event | float"]] = field(default_factory=list)
    _started: float = field(default_factory=time.perf_counter)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times what runs inside; a phase entered again adds up."""
        begun = self._mark()
        yield
        self._spans.append((name, begun, self._mark()))

    def read(self) -> dict[str, float]:
        """Seconds by phase and ``total`` since the last reading; waits for the device and starts over."""
        seconds = dict.fromkeys(("data", "forward", "backward", "optimizer"), 0.0)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        for name, begun, ended in self._spans:
            seconds[name] += _between(begun, ended)
        now = time.perf_counter()
        seconds["total"] = now - self._started
        self._spans, self._started = [], now
        return {name: round(value, 5) for name, value in seconds.items()}

    def _mark(self) -> "torch.cuda.Event | float":
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


def _between(begun: "torch.cuda.Event | float", ended: "torch.cuda.Event | float") -> float:
    if isinstance(begun, float) or isinstance(ended, float):
        assert isinstance(begun, float) and isinstance(ended, float)
        return ended - begun
    return float(begun.elapsed_time(ended)) / 1000


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the ranks tell each other at the end of a step."""

    stop: bool
    """Whether any rank saw a stop request."""
    vram_mib: list[dict[str, int]]
    """By rank: torch's allocated and reserved memory now, and the peak of reserved since the start."""
    rss_mib: int
    """Resident memory of all ranks together."""


def agree(world: World, stop: bool) -> Agreement:
    """One collective: stop requests and memory of every rank.

    Args:
        world: the ranks.
        stop: whether this rank saw a stop request.
    """
    rows = world.gather([float(stop), *_memory(world.device)])
    by_name = ("allocated", "reserved", "peak")
    return Agreement(
        stop=any(row[0] for row in rows),
        vram_mib=[{name: int(value) for name, value in zip(by_name, row[1:4], strict=True)} for row in rows]
        if world.device.type == "cuda"
        else [],
        rss_mib=int(sum(row[4] for row in rows)),
    )


def _memory(device: torch.device) -> list[float]:
    rss = psutil.Process().memory_info().rss / MIB
    if device.type != "cuda":
        return [0, 0, 0, rss]
    return [
        torch.cuda.memory_allocated(device) / MIB,
        torch.cuda.memory_reserved(device) / MIB,
        torch.cuda.max_memory_reserved(device) / MIB,
        rss,
    ]
