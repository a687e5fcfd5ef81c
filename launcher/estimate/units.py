"""What ZeRO-3 fetches and releases at once: modules, or whole blocks of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from launcher.estimate.trace import Kind, Trace


@dataclass(frozen=True, slots=True)
class Units:
    """A trace's modules as DeepSpeed sees them, and the passes through them."""

    sizes: Sequence[int]
    """Elements of each weight."""
    matrices: Sequence[bool]
    """Whether a weight is the matrix of a linear layer."""
    members: Sequence[Sequence[int]]
    """The weights that a unit holds itself, or all in it where it is a block that is fetched whole."""
    reach: Sequence[Sequence[int]]
    """All weights in it, whatever it is."""
    whole: Sequence[bool]
    """Whether it is a block that is fetched whole."""
    passes: Sequence[int]
    """The unit of each pass, forward or backward, in order."""
    events: Sequence[tuple[int, int]]
    """The trace's, with passes in place of modules: ENTER and LEAVE of a pass by its number."""


def units_of(trace: Trace, *, leaf_blocks: bool) -> Units:
    """The units of a trace.

    Args:
        trace: of a U-Net.
        leaf_blocks: whether transformer blocks and resnets are fetched whole (DeepSpeed's leaf modules).
    """
    numbers = count()
    sizes = [size for module in trace.modules for size in module]
    matrices = [
        linear and first
        for linear, module in zip(trace.linears, trace.modules, strict=True)
        for first in (place == 0 for place in range(len(module)))
    ]
    own = [[next(numbers) for _ in module] for module in trace.modules]
    reach = [list(each) for each in own]
    inside = [False] * len(own)
    for module in range(len(own) - 1, 0, -1):  # parts come after what they are part of
        reach[trace.parents[module]] += reach[module]
    whole = [leaf_blocks and block for block in trace.blocks]
    for module in range(1, len(own)):
        parent = trace.parents[module]
        inside[module] = whole[parent] or inside[parent]
    members = [reach[module] if whole[module] else own[module] for module in range(len(own))]
    passes, events = _passes(trace, inside)
    return Units(sizes, matrices, members, reach, whole, passes, events)


def _passes(trace: Trace, inside: Sequence[bool]) -> tuple[list[int], list[tuple[int, int]]]:
    passes: list[int] = []
    events: list[tuple[int, int]] = []
    under_way: dict[tuple[bool, int], int] = {}
    for kind, index in trace.events:
        here = kind in {Kind.ENTER_BACKWARD, Kind.LEAVE_BACKWARD}, index
        if kind in {Kind.ENTER, Kind.ENTER_BACKWARD}:
            if not inside[index]:
                under_way[here] = len(passes)
                events.append((Kind.ENTER, len(passes)))
                passes.append(index)
        elif kind in {Kind.LEAVE, Kind.LEAVE_BACKWARD}:
            if here in under_way:
                events.append((Kind.LEAVE, under_way.pop(here)))
        else:
            events.append((kind, index))
    return passes, events
