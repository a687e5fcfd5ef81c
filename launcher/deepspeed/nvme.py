"""What NVMe offload takes: paths, buffers, and what it writes to the drive."""

from launcher.config.deepspeed import names_no_folder
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT, View

MOMENTS = {"adam": 2, "adamw": 2, "lion": 2, "adagrad": 1}
"""Tensors of optimizer state for each parameter that are swapped, by DeepSpeed's name; Lion's second is never used, and
Muon has two of what its Adam updates."""

ENDURANCE = 600e12
"""Bytes that may be written to a usual drive of a terabyte, as its makers say (TBW)."""

_MASTER_AND_GRADIENT = 8
"""Bytes of fp32 master and gradient that are written for each parameter and step."""


def no_path(value: object) -> bool:
    """Whether an NVMe path says nothing: left out, blank, or the word none."""
    return value in (ABSENT, None, "auto") or names_no_folder(value)


def partition_of_largest(run: RunFacts) -> int:
    """Elements of the largest parameter that one GPU holds at stage 3."""
    return -(-run.largest_parameter // run.world_size)


def largest_group(view: View, run: RunFacts) -> int:
    """Elements, at the most, that a GPU updates at once: a group is full with the parameter that passes its size."""
    full = int(view.get("zero_optimization.sub_group_size")) + partition_of_largest(run)
    return min(full, -(-run.parameters // run.world_size))


def parameters_on_nvme(view: View, run: RunFacts) -> bool:
    """Whether parameters stay on NVMe: what ``max_in_cpu`` lets stay in host memory does once the engine is built."""
    here = view.get("zero_optimization.offload_param.max_in_cpu")
    return view.stage == 3 and view.device("offload_param") == "nvme" and run.parameters / run.world_size > here


def swapped_bytes(view: View, run: RunFacts) -> int:
    """Bytes that one optimizer step writes at stage 3, of all GPUs: they share the drive.

    Measured for Adam: 16 for each parameter, 18 with parameters on NVMe, whatever the accumulation.
    """
    each = 2 if view.device("offload_param") == "nvme" else 0
    return updated_bytes(view, run) + each * run.parameters


def updated_bytes(view: View, run: RunFacts) -> int:
    """Bytes of masters, gradients and moments that one optimizer step reads, and has written, of all GPUs."""
    if view.device("offload_optimizer") != "nvme":
        return 0
    return (_MASTER_AND_GRADIENT + 4 * MOMENTS.get(view.optimizer, 2)) * run.parameters


def fetched_bytes(view: View, run: RunFacts, fetched: float) -> float:
    """Bytes read for ``fetched`` parameters, of all GPUs; those that stay in host memory are not read."""
    if not parameters_on_nvme(view, run):
        return 0
    here = int(view.get("zero_optimization.offload_param.max_in_cpu")) * run.world_size / run.parameters
    return 2 * (1 - here) * fetched


def steps_of_a_drive(step: float) -> float:
    """How many optimizer steps a drive lasts that each write ``step`` bytes."""
    return ENDURANCE / step


def drive_life(view: View, run: RunFacts) -> str:
    """What a run writes to its drive, and how long one lasts; something must be on NVMe."""
    step = swapped_bytes(view, run)
    steps = steps_of_a_drive(step)
    return (
        f"each optimizer step writes {step / 1e9:.3g} GB to the drive, {step * run.max_train_steps / 1e12:.3g} TB in "
        f"{run.max_train_steps} steps; a drive made for {ENDURANCE / 1e12:.0f} TB lasts {steps:,.0f} steps"
    )
