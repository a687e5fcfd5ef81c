"""NVMe paths, the buffers that follow from the model, and what is left to ``auto``."""

from launcher.config.deepspeed import deepspeed_declarations
from launcher.deepspeed.fields import FIELDS, STRICT, shown
from launcher.deepspeed.normalise.sheet import Sheet
from launcher.deepspeed.nvme import no_path, parameters_on_nvme, partition_of_largest
from launcher.deepspeed.run_facts import RunFacts

_ZERO = "zero_optimization"
_BUFFER = f"{_ZERO}.offload_param.buffer_size"
_PREFETCH = f"{_ZERO}.stage3_prefetch_bucket_size"

ALIGNMENT = 2**20
"""Buffers are sized in whole multiples of so many elements, as the drive wants them aligned."""


def settle_nvme(sheet: Sheet, run: RunFacts) -> None:
    """Both paths from the run's, and buffers as large as SDXL's largest parameter needs."""
    for part in ("offload_optimizer", "offload_param"):
        path = f"{_ZERO}.{part}.nvme_path"
        if sheet.view.device(part) == "nvme" and no_path(sheet.raw(path)) and run.offload_param_path:
            sheet.set(path, run.offload_param_path, "the run's offload_param_path")
    # Below stage 3 nothing is swapped, and no buffer made.
    if sheet.view.stage == 3 and sheet.view.device("offload_param") == "nvme" and sheet.missing(_BUFFER):
        size = -(-partition_of_largest(run) // ALIGNMENT) * ALIGNMENT
        sheet.set(_BUFFER, size, f"the model's largest parameter has {partition_of_largest(run)} elements on one GPU")
    if parameters_on_nvme(sheet.view, run) and sheet.missing(_PREFETCH):
        sheet.set(_PREFETCH, 0, "DeepSpeed cannot fetch parameters ahead from NVMe")


def settle_auto(sheet: Sheet, run: RunFacts) -> None:
    """What is still ``auto``: nobody but DeepSpeed fills it in here, and DeepSpeed mostly takes it for its default."""
    for precision in ("bf16", "fp16"):
        if sheet.raw(f"{precision}.enabled") == "auto":
            chosen = run.mixed_precision == precision
            sheet.set(f"{precision}.enabled", chosen, "the run's mixed_precision; DeepSpeed takes auto for false")
    largest = run.largest_parameter + run.largest_parameter % 2
    for key in ("reduce_bucket_size", "allgather_bucket_size", "stage3_prefetch_bucket_size"):
        path = f"{_ZERO}.{key}"
        if sheet.raw(path) == "auto":
            bucket = max(int(str(deepspeed_declarations()[path].default)), largest)
            sheet.set(path, bucket, "holds the model's largest parameter; DeepSpeed's own wastes memory")
    for path, field in FIELDS.items():
        if sheet.raw(path) == "auto":
            strict = path.rpartition(".")[0] in STRICT
            default = f"its default, {shown(field.default)}" if field.default is not None else "its default"
            why = (
                f"DeepSpeed takes auto for {default}"
                if strict
                else f"DeepSpeed stops at auto; left out it is {default}"
            )
            sheet.remove(path, why)
