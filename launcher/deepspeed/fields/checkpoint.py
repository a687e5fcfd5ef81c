"""How DeepSpeed writes checkpoints, and what it knows of activation checkpointing."""

from launcher.deepspeed.fields.field import Field, Group, Kind

_NO_EFFECT = "No effect here: diffusers checkpoints activations itself (training.gradient_checkpointing)."

CHECKPOINT = (
    Field(
        "checkpoint.tag_validation",
        Kind.TEXT,
        "Warn",
        "What happens where GPUs do not agree on a checkpoint's name.",
        Group.CHECKPOINT,
        choices=("Ignore", "Warn", "Fail"),
        any_case=True,
    ),
    Field(
        "checkpoint.load_universal",
        Kind.BOOL,
        False,
        "Resume from a universal checkpoint.",
        Group.CHECKPOINT,
        effect="Checkpoints written here are DeepSpeed's own and cannot be resumed with it.",
    ),
    Field(
        "checkpoint.use_node_local_storage",
        Kind.BOOL,
        False,
        "Each machine writes its part to its own disk.",
        Group.CHECKPOINT,
        effect="For several machines.",
    ),
    Field(
        "checkpoint.parallel_write.pipeline_stage",
        Kind.BOOL,
        False,
        "Pipeline stages write their parts at the same time.",
        Group.CHECKPOINT,
        effect="For pipeline parallelism.",
    ),
    Field(
        "checkpoint.checkpoint_serialization",
        Kind.BOOL,
        True,
        "Write checkpoints as torch's zip files.",
        Group.CHECKPOINT,
    ),
    *(
        Field(f"activation_checkpointing.{key}", Kind.BOOL, False, meaning, Group.CHECKPOINT, effect=_NO_EFFECT)
        for key, meaning in (
            ("partition_activations", "Partition activations over model-parallel GPUs."),
            ("cpu_checkpointing", "Keep activations in host memory."),
            ("contiguous_memory_optimization", "Copy activations into one buffer."),
            ("synchronize_checkpoint_boundary", "Wait for the GPU at each checkpoint."),
            ("profile", "Time each checkpoint."),
        )
    ),
    Field(
        "activation_checkpointing.number_checkpoints",
        Kind.INT,
        None,
        "Checkpoints, for the size of that buffer.",
        Group.CHECKPOINT,
        effect=_NO_EFFECT,
        minimum=1,
    ),
)
