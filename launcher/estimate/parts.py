"""Shares of a cost."""

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
