"""What NVMe offload takes: paths, buffers, and what it writes to the drive."""

from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT, View

MOMENTS = {"adam": 2, "adamw": 2, "lion": 1, "adagrad": 1}
"""Tensors of optimizer state for each parameter, by DeepSpeed's name; Muon has two of what its Adam updates."""

_MASTER_AND_GRADIENT = 8
"""Bytes of fp32 master and gradient that are written for each parameter and step."""


def no_path(value: object) -> bool:
    """Whether an NVMe path says nothing: left out, blank, or the word none."""
    return value in (ABSENT, None, "auto") or (isinstance(value, str) and value.strip().lower() in ("", "none"))


def partition_of_largest(run: RunFacts) -> int:
    """Elements of the largest parameter that one GPU holds at stage 3."""
    return -(-run.largest_parameter // run.world_size)


def swapped_bytes(view: View, run: RunFacts) -> int:
    """Bytes that one optimizer step writes to one GPU's drive at stage 3.

    Measured for Adam: 16 for each parameter, 18 with parameters on NVMe, whatever the accumulation.
    """
    each = 0
    if view.device("offload_optimizer") == "nvme":
        each += _MASTER_AND_GRADIENT + 4 * MOMENTS.get(view.optimizer, 2)
    if view.device("offload_param") == "nvme":
        each += 2
    return each * run.parameters // run.world_size
