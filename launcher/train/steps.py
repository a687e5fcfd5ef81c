"""What one optimizer step took and used: seconds by phase, memory by rank."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import psutil
import torch

from launcher.train.distributed import World
from launcher.train.memory import MIB, MemoryMeter


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
            seconds[name] = seconds.get(name, 0.0) + _between(begun, ended)
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
    checkpoint: bool
    """Whether rank 0 saw a request for a checkpoint."""
    vram_mib: list[dict[str, int]]
    """By rank: torch's allocated and reserved memory and the process's, all now, and reserved at its peak so far."""
    rss_mib: int
    """Resident memory of all ranks together."""


def agree(world: World, stop: bool, checkpoint: bool, meter: MemoryMeter | None) -> Agreement:
    """One collective: requests and memory of every rank.

    Args:
        world: the ranks.
        stop: whether this rank saw a stop request.
        checkpoint: whether it saw a request for a checkpoint. Only rank 0's word counts: it takes the request away,
            which network storage may show to the others later.
        meter: of this rank's GPU, if it has one.
    """
    rss = psutil.Process().memory_info().rss / MIB
    held = asdict(meter.now()) | {"peak": meter.peak_reserved} if meter else {}
    rows = world.gather([float(stop), float(checkpoint), rss, *held.values()])
    return Agreement(
        stop=any(row[0] for row in rows),
        checkpoint=bool(rows[0][1]),
        rss_mib=int(sum(row[2] for row in rows)),
        vram_mib=[dict(zip(held, map(int, row[3:]), strict=True)) for row in rows if held],
    )
