"""What to change where a GPU's memory does not suffice."""

from collections.abc import Mapping
from typing import Any

from launcher.runs.directory import RunDirectory

CLOSE = "close what else uses this GPU"


def what_happened(phase: str, held: Mapping[str, int], predicted_mib: int | None) -> str:
    """In which phase it ran out, what was held then and what was predicted.

    Args:
        phase: of the run, or of its estimate.
        held: MiB that torch had ``reserved`` and the ``process`` held, as in the event ``out_of_memory``.
        predicted_mib: of the process in this phase, if there is a prediction.
    """
    beside = f", where {predicted_mib:,} MiB were predicted" if predicted_mib else ""
    return (
        f"the GPU is out of memory in phase {phase}: torch held {held['reserved']:,} MiB and the process "
        f"{held['process'] or held['reserved']:,} MiB{beside}"
    )


def of_event(event: Mapping[str, Any]) -> str:
    """The same, of an event."""
    return what_happened(event["phase"], event["measured"], event["predicted_mib"])


def changes(phase: str, run: RunDirectory) -> tuple[str, ...]:
    """Which settings to change where a phase runs out of GPU memory: those that are not at their most frugal.

    Args:
        phase: of the estimate.
        run: that failed.
    """
    training, zero = run.training(), run.deepspeed().get("zero_optimization", {}) if run.uses_deepspeed() else {}
    optimization = training.optimization
    if phase == "caching":
        return (CLOSE, "make the caches on another machine: training.cache_dir")
    if phase == "validation":
        return ("lower training.validation_resolution or training.num_validation_images",)
    if phase == "save" and training.checkpoints.checkpoint_contents != "full":
        return ("set training.checkpoint_contents to full",)
    if phase == "load":
        return (CLOSE,)
    plain = not run.uses_deepspeed()
    offloads = "offload_optimizer" in zero or plain
    partitions = (zero.get("stage") == 3 and "offload_param" in zero) or plain
    possible = [
        (plain, "train with DeepSpeed and the optimizer offloaded (accelerate.use_deepspeed)"),
        (not offloads, "offload the optimizer (accelerate.offload_optimizer)"),
        (not partitions, "choose ZeRO stage 3 with the parameters offloaded (accelerate.zero_stage, "
         "accelerate.offload_param)"),
    ]  # fmt: skip
    if phase != "init":
        possible = [
            (optimization.train_batch_size > 1, "lower training.train_batch_size"),
            (not optimization.gradient_checkpointing, "turn on training.gradient_checkpointing"),
            (
                optimization.gradient_checkpointing and optimization.gradient_checkpointing_granularity != "all",
                "answer training.gradient_checkpointing_granularity with all",
            ),
            *possible,
            (True, "lower training.resolution"),
        ]
    return tuple(change for helps, change in possible if helps) or (CLOSE,)
