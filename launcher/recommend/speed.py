"""How fast settings are beside each other: the one rule that is followed where nobody knows what a step takes here.

Seconds are an H200's with 16 cores, of the true SDXL at 1024 px, and say an order only. They are what
``launcher.estimate.step_time`` tells of one picture with that machine's bandwidths
(``benchmarks/predictions/bandwidths-16-cores.json``): at stage 2 with the optimizer on the CPU and at stage 3 with
weights there too that is within 20 % of what was measured, on the mean of several machines. Those of several GPUs are
of two that hold everything, which was not measured with this launcher. NVMe writes and reads 16 bytes a parameter in
each step, 82 GB for SDXL, here at 4 and 6 GB a second.
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
    least: float
    """Of each micro-batch, however few its pixels: kernels are started, weights and gradients copied."""


PACES: dict[Placement, Pace] = {
    PLAIN: Pace(0.07, 0.52),
    SHARED_1: Pace(0.32, 0.98),
    SHARED_2: Pace(0.32, 1.11),
    SHARED_3: Pace(0.32, 1.5),
    CPU_1: Pace(0.67, 0.52),
    CPU_2: Pace(0.56, 0.63),
    CPU_3: Pace(0.67, 1.18),
    OPTIMIZER_3: Pace(1.95, 0.74),
    NVME: Pace(18.2, 1.5),
    ALL_NVME: Pace(19.5, 4.1),
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
    return variant.batch * accumulation / (pace.update + accumulation * max(pace.least, computing))
