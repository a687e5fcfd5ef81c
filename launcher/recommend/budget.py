"""What a run may take, and by how much a plan misses it."""

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from launcher.estimate import Estimate

SHORT = 1.02
"""How much more memory a run may take than the estimate says, which is never under by more than 2 %."""
REPEATED = "step"
"""The phase that is gone through again and again. In the others torch may have to give back once what it holds
between tensors, which costs a moment; in this one it would cost that moment at every step."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What there is for a run, in MiB."""

    vram_mib: int
    """Of each GPU."""
    ram_mib: int
    disk_mib: int


class Kind(StrEnum):
    """What may run short, in words for people."""

    VRAM = "VRAM"
    RAM = "host RAM"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Miss:
    """One budget that does not suffice."""

    kind: Kind
    needed_mib: int
    """Memory with what the estimate may be short by."""
    has_mib: int
    phase: str = ""
    """Of GPU memory: the phase of the run that needs most."""

    @property
    def short_mib(self) -> int:
        """How much is missing."""
        return self.needed_mib - self.has_mib


def vram_needed(cost: Estimate) -> tuple[int, str]:
    """MiB of each GPU that a run is to be given, and the phase that needs them."""
    by_phase = {phase.name: phase.process_mib if phase.name == REPEATED else phase.least_mib for phase in cost.gpu}
    phase = max(by_phase, key=lambda name: by_phase[name])
    return ceil(SHORT * by_phase[phase]), phase


def misses(cost: Estimate, budget: Budget) -> tuple[Miss, ...]:
    """Which budgets a plan does not keep within; none where it fits."""
    vram, phase = vram_needed(cost)
    wanted = (
        Miss(Kind.VRAM, vram, budget.vram_mib, phase),
        Miss(Kind.RAM, ceil(SHORT * cost.host_mib), budget.ram_mib),
        Miss(Kind.DISK, cost.disk_mib, budget.disk_mib),
    )
    return tuple(each for each in wanted if each.short_mib > 0)
