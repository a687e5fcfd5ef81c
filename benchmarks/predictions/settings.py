"""The settings that predictions are held against: those that constants were fitted on, those held out, and presets."""

from typing import Any

from launcher.config.deepspeed import BLOCKS
from simpletuner_tui.presets import presets

UNTUNED: dict[str, Any] = {
    "zero_optimization.offload_param.pin_memory": True,
    "zero_optimization.reduce_bucket_size": 50_000_000,
    "zero_optimization.overlap_comm": False,
    "zero_optimization.stage3_prefetch_bucket_size": 50_000_000,
    "zero_optimization.stage3_max_live_parameters": 1_000_000_000,
    "zero_optimization.stage3_max_reuse_distance": 1_000_000_000,
}
"""Defaults before they were fitted to SDXL, by their place in DeepSpeed's JSON: settings that say nothing of them train so."""

RUN: dict[str, Any] = {
    "training.resolution": 1024,
    "training.max_train_steps": 4,
    "training.train_batch_size": 8,
    "training.lr_warmup_steps": 2,
    "training.learning_rate": 1e-5,
    "training.checkpointing_steps": 4,
    "training.checkpoints_total_limit": 1,
    "training.checkpoint_contents": "weights",
    "training.num_eval_images": 0,
    "training.num_validation_images": 0,
    "training.export_pipeline": False,
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 2,
    "accelerate.offload_optimizer": "cpu",
    "accelerate.use_clip": True,
    "accelerate.mixed_precision": "bf16",
}
COMMON = RUN | {f"deepspeed.{path}": value for path, value in UNTUNED.items()}


def _of(batch: int, resolution: int, **changed: Any) -> dict[str, Any]:
    """Answers: keys of ``changed`` are ids with a double underscore for each dot."""
    ids = {name.replace("__", "."): value for name, value in changed.items()}
    return COMMON | {"training.train_batch_size": batch, "training.resolution": resolution} | ids


ZERO = "deepspeed__zero_optimization__"
STAGE_3 = {"accelerate__zero_stage": 3, "accelerate__offload_param": "cpu"}
LORA = {"training__model_type": "lora"}
ON_GPU = {"accelerate__offload_optimizer": "none"}
PLAIN = {"accelerate__use_deepspeed": False}
FULL = {"training__gradient_checkpointing": False}
SMALL_BUCKETS = {
    f"{ZERO}reduce_bucket_size": 30_000_000,
    f"{ZERO}stage3_prefetch_bucket_size": 40_000_000,
    f"{ZERO}stage3_max_live_parameters": 120_000_000,
    f"{ZERO}stage3_max_reuse_distance": 0,
}
TWO = {"accelerate__machine": "MULTI_GPU", "accelerate__num_processes": 2}

STREAMED: dict[str, Any] = {
    "accelerate.zero_stage": 3,
    "accelerate.offload_param": "cpu",
    "deepspeed.zero_optimization.offload_param.pin_memory": False,
    "deepspeed.zero_optimization.reduce_bucket_size": 30_000_000,
    "deepspeed.zero_optimization.stage3_prefetch_bucket_size": 40_000_000,
    "deepspeed.zero_optimization.stage3_max_live_parameters": 120_000_000,
    "deepspeed.zero_optimization.stage3_max_reuse_distance": 10_000_000,
    "deepspeed.zero_optimization.overlap_comm": True,
    "deepspeed.extra": {
        "zero_optimization": {"leaf_module": {"classes": list(BLOCKS)}, "memory_efficient_linear": False}
    },
}
"""Weights are on the GPU only while they are used."""
RESIDENT: dict[str, Any] = {
    "accelerate.zero_stage": 2,
    "deepspeed.zero_optimization.reduce_bucket_size": 30_000_000,
    "deepspeed.zero_optimization.overlap_comm": True,
}
"""Weights stay on the GPU, the optimizer on the CPU."""

CALIBRATION: dict[str, dict[str, Any]] = {
    "streamed 1024x8": _of(8, 1024) | STREAMED,
    "streamed 1024x1": _of(1, 1024) | STREAMED,
    "streamed 768x4": _of(4, 768) | STREAMED,
    "streamed 128x8": _of(8, 128) | STREAMED,
    "resident 1024x8": _of(8, 1024) | RESIDENT,
    "resident 128x8": _of(8, 128) | RESIDENT,
    "resident 1024x8 accumulation 4": _of(8, 1024, accelerate__gas=4) | RESIDENT,
    "zero2 1024x8": _of(8, 1024, training__checkpoint_contents="full"),
    "zero2 128x8": _of(8, 128),
    "zero2 768x4": _of(4, 768),
    "zero2 512x4 no checkpointing": _of(4, 512, **FULL),
    "zero2 768x2 accumulation 4": _of(2, 768, accelerate__gas=4),
    "zero3 1024x8": _of(8, 1024, **STAGE_3),
    "zero3 512x2": _of(2, 512, **STAGE_3),
    "zero3 1024x1 small buckets": _of(1, 1024, **STAGE_3, **SMALL_BUCKETS),
    "plain 768x2": _of(2, 768, **PLAIN),
    "lora zero2 1024x8": _of(8, 1024, **LORA),
    "zero2 512x1 fp32": _of(1, 512, accelerate__mixed_precision="no"),
    "zero2 768x4 on the GPU": _of(4, 768, **ON_GPU),
    "zero1 1024x4 on the GPU": _of(4, 1024, accelerate__zero_stage=1, **ON_GPU),
    "lora zero3 768x4": _of(4, 768, **LORA, **STAGE_3),
    "zero2 1024x4 two GPUs": _of(4, 1024, **TWO),
}
"""What the constants of ``launcher.estimate`` are fitted on; of the first seven, some on torch's figures alone."""
HOLD_OUT: dict[str, dict[str, Any]] = {
    "streamed 512x4 no checkpointing": _of(4, 512, **FULL) | STREAMED,
    "streamed 768x2 accumulation 4": _of(2, 768, accelerate__gas=4) | STREAMED,
    "resident 768x4": _of(4, 768) | RESIDENT,
    "resident 1024x4 stage 1": _of(4, 1024) | RESIDENT | {"accelerate.zero_stage": 1},
    "lora resident 768x4": _of(4, 768, **LORA) | RESIDENT,
    "zero3 768x4 Lion": _of(4, 768, deepspeed__optimizer__type="Lion", **STAGE_3),
    "streamed 1024x8 two GPUs": _of(8, 1024, **TWO) | STREAMED,
    "resident 1024x8 two GPUs": _of(8, 1024, **TWO) | RESIDENT,
    "zero2 1024x16": _of(16, 1024),
    "zero2 1024x8 resnets kept": _of(8, 1024, training__gradient_checkpointing_granularity="transformer_blocks"),
    "zero2 1024x2 large buckets": _of(
        2, 1024, **{f"{ZERO}reduce_bucket_size": 500_000_000, f"{ZERO}overlap_comm": True}
    ),
    "zero2 512x8 moving average, pictures": _of(
        8,
        512,
        training__use_ema=True,
        training__validation_steps=2,
        training__num_validation_images=1,
        training__validation_resolution=1024,
        training__validation_num_inference_steps=4,
    ),
    "zero2 768x2 Lion": _of(2, 768, deepspeed__optimizer__type="Lion"),
    "zero3 768x8 parameters on the GPU": _of(8, 768, accelerate__zero_stage=3),
    "zero3 1024x4 no checkpointing": _of(4, 1024, **STAGE_3, **FULL),
    "lora plain 1024x4": _of(4, 1024, **LORA, **PLAIN),
    "zero2 1024x2 on the GPU": _of(2, 1024, **ON_GPU),
    "plain 1024x4": _of(4, 1024, **PLAIN),
    "lora zero2 768x2": _of(2, 768, **LORA),
    "lora zero3 1024x1": _of(1, 1024, **LORA, **STAGE_3),
    "zero2 768x8 two GPUs": _of(8, 768, **TWO),
    "zero3 768x4 two GPUs": _of(4, 768, **TWO, **STAGE_3),
}
"""Measured once the constants stood."""
PRESETS: dict[str, dict[str, Any]] = {f"preset {preset.name}": RUN | preset.answers for preset in presets()}
"""Those that come with the program; constants were not fitted on them."""
