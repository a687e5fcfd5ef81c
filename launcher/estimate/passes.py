"""What a micro-batch's passes take of ZeRO-3: modules that are entered, and weights that are fetched for them."""

from dataclasses import dataclass
from functools import lru_cache

from launcher.estimate.engine_facts import EngineFacts
from launcher.estimate.fetching import Fetching
from launcher.estimate.gpu import Gpu
from launcher.estimate.trace import Kind, shipped
from launcher.estimate.units import units_of


@dataclass(frozen=True, slots=True)
class Pass:
    """One direction."""

    modules: int
    """That are entered, those that are computed again among them; blocks that are fetched whole count as one."""
    tensors: int
    """Fetched."""
    elements: int
    """Fetched."""


@lru_cache(maxsize=64)
def passes_of_sdxl(granularity: str, facts: EngineFacts) -> tuple[Pass, Pass]:
    """Forward and backward pass of SDXL's U-Net, once the order of modules is learnt.

    Args:
        granularity: of gradient checkpointing: ``none``, ``transformer_blocks`` or ``all``.
        facts: of the engine.
    """
    units = units_of(shipped(granularity), leaf_blocks=facts.leaf_blocks)
    fetching = Fetching(Gpu(), units, facts)
    marks: list[tuple[int, int, int]] = []
    for _ in range(2):  # the first teaches the order
        modules = 0
        marks = [(modules, fetching.fetched_tensors, fetching.fetched_elements)]
        for kind, index in units.events:
            if kind == Kind.ENTER:
                modules += 1
                fetching.begin(index)
            elif kind == Kind.LEAVE:
                fetching.end(index)
            elif kind == Kind.LOSS:
                marks.append((modules, fetching.fetched_tensors, fetching.fetched_elements))
        marks.append((modules, fetching.fetched_tensors, fetching.fetched_elements))
        fetching.over()
    start, loss, end = marks
    forward, backward = (
        Pass(*(after - before for before, after in zip(*both, strict=True))) for both in ((start, loss), (loss, end))
    )
    return forward, backward
