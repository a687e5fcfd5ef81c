"""A setting and what it misses, in words."""

from launcher.recommend.budget import Kind, Miss
from launcher.recommend.placements import Variant

RECOMPUTED = {
    "all": "all blocks recomputed",
    "transformer_blocks": "transformer blocks alone recomputed",
    "none": "nothing recomputed",
}
MANY_WEIGHTS, FEW_WEIGHTS = "many weights on the GPU at once", "few weights on the GPU at once"
PHASES = {
    "load": "while loading",
    "caching": "while caching",
    "init": "at the start",
    "step": "while training",
    "validation": "while pictures are drawn",
    "save": "while saving",
}
"""When a phase is, in a sentence."""


def described(variant: Variant, accumulation: int) -> str:
    """A whole setting in a line."""
    placement = variant.placement
    pictures = f"{accumulation} micro-batches of {variant.batch}" if accumulation > 1 else f"batch {variant.batch}"
    parts = [placement.name, pictures, RECOMPUTED[variant.checkpointing]]
    if placement.stage == 3:
        parts.append(MANY_WEIGHTS if variant.roomy else FEW_WEIGHTS)
    return ", ".join(parts)


def deficit(miss: Miss) -> str:
    """What is missing, how much and when."""
    phase = f" {PHASES[miss.phase]}" if miss.kind is Kind.VRAM else ""
    return (
        f"needs {_gib(miss.needed_mib)} of {miss.kind}{phase}, {_gib(miss.has_mib)} are there: "
        f"{_gib(miss.short_mib)} short"
    )


def _gib(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib} MiB"
