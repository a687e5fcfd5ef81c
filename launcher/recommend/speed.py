"""How fast settings are beside each other: the one rule that is followed where nobody knows what a step takes here.

Seconds are an H200's, of the true SDXL at 1024 px, and say an order only. Measured with ``benchmarks/stock_zero.py``:
0.97 a step of batch 8 without offload; 2.1 to 2.3 at stage 2 with the optimizer on the CPU, at batch 1 as at batch 8,
as copying gradients takes as long as computing them; 2.3 to 2.9 at stage 3 with weights on the CPU too and blocks
fetched whole; 4.9 with the optimizer alone there. Computed: stage 1 with the optimizer on the CPU copies gradients once
a step, after all of it; weights shared by several GPUs are fetched as fast as from the CPU; NVMe writes and reads 16
bytes a parameter in each step, 82 GB for SDXL, at a few GB a second.
"""

from dataclasses import dataclass

from launcher.recommend.placements import (
    ALL_NVME,
    CPU_1,
    CPU_2,
    CPU_3,
    NVME,
    OPTIMIZER_3,
    PLAIN,
    SHARED_1,
    SHARED_2,
    SHARED_3,
    Placement,
    Variant,
)

PICTURE = 0.0775
"""Seconds that a picture of 1024 x 1024 takes forward and backward, all blocks recomputed."""
SHARE = {"all": 1.0, "transformer_blocks": 0.94, "none": 0.8}
"""Of what is computed with all blocks recomputed: that adds a quarter to the rest, most of it transformer blocks'."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds of a step."""

    update: float
    """The optimizer's share, and what is copied once."""
    copying: float
    """Of each micro-batch, while it is computed: what it takes at least."""


PACES: dict[Placement, Pace] = {
    PLAIN: Pace(0.34, 0.17),
    SHARED_1: Pace(0.34, 0.17),
    SHARED_2: Pace(0.34, 0.17),
    SHARED_3: Pace(0.34, 1.3),
    CPU_1: Pace(1.55, 0.17),
    CPU_2: Pace(1.05, 1.13),
    CPU_3: Pace(1.0, 1.55),
    OPTIMIZER_3: Pace(2.15, 2.63),
    NVME: Pace(16.0, 1.55),
    ALL_NVME: Pace(18.0, 2.63),
}


def pictures_per_second(variant: Variant, pixels: int, accumulation: int) -> float:
    """Of each GPU, as far as an order of settings goes.

    Args:
        variant: of a setting.
        pixels: of a picture.
        accumulation: micro-batches a step.
    """
    pace = PACES[variant.placement]
    computing = PICTURE * SHARE[variant.checkpointing] * variant.batch * pixels / 1024**2
    return variant.batch * accumulation / (pace.update + accumulation * max(pace.copying, computing))
