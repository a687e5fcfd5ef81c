"""Shares of a cost, and of a run's phases."""

from collections.abc import Mapping
from dataclasses import dataclass

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Part:
    """One share of a cost."""

    name: str
    mib: int


def in_mib(parts: Mapping[str, float]) -> tuple[Part, ...]:
    """Bytes by name as shares; those of nothing are left out."""
    return tuple(Part(name, round(size / MIB)) for name, size in parts.items() if size)


@dataclass(frozen=True, slots=True)
class Phase:
    """What a run takes of each GPU in one of its phases, at that phase's peak."""

    name: str
    """``load``, ``caching``, ``init``, ``step``, ``validation`` or ``save``."""
    parts: tuple[Part, ...]
    """Of the process; of torch's own, what was allocated when the most was."""
    allocated_mib: int
    """The most that torch's tensors take at once."""
    reserved_mib: int
    """The most that torch holds at once, as long as nothing makes it give memory back."""
    least_mib: int
    """What the process cannot do without: where there is less, torch gives back what it holds, and still fails."""

    @property
    def process_mib(self) -> int:
        """What nvidia-smi shows for the process."""
        return sum(part.mib for part in self.parts)
