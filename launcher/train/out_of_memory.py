"""What to change where a GPU's memory does not suffice."""

from launcher.runs.directory import RunDirectory

CLOSE = "close what else uses this GPU"


def advice(phase: str, run: RunDirectory) -> str:
    """Which settings to change where a phase runs out of GPU memory: those that are not at their most frugal.

    Args:
        phase: of the estimate.
        run: that failed.
    """
    training, zero = run.training(), run.deepspeed().get("zero_optimization", {}) if run.uses_deepspeed() else {}
    optimization = training.optimization
    if phase == "caching":
        return f"{CLOSE}, or make the caches on another machine: training.cache_dir"
    if phase == "validation":
        return "lower training.validation_resolution or training.num_validation_images"
    if phase == "save" and training.checkpoints.checkpoint_contents != "full":
        return "set training.checkpoint_contents to full"
    if phase == "load":
        return CLOSE
    plain = not run.uses_deepspeed()
    offloads = "offload_optimizer" in zero or plain
    partitions = (zero.get("stage") == 3 and "offload_param" in zero) or plain
    changes = [
        (plain, "train with DeepSpeed and the optimizer offloaded (accelerate.use_deepspeed)"),
        (not offloads, "offload the optimizer (accelerate.offload_optimizer)"),
        (not partitions, "choose ZeRO stage 3 with the parameters offloaded (accelerate.zero_stage, "
         "accelerate.offload_param)"),
    ]  # fmt: skip
    if phase != "init":
        changes = [
            (optimization.train_batch_size > 1, "lower training.train_batch_size"),
            (not optimization.gradient_checkpointing, "turn on training.gradient_checkpointing"),
            (
                optimization.gradient_checkpointing and optimization.gradient_checkpointing_granularity != "all",
                "answer training.gradient_checkpointing_granularity with all",
            ),
            *changes,
            (True, "lower training.resolution"),
        ]
    return ", or ".join(change for helps, change in changes if helps) or CLOSE
