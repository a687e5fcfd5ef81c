"""The settings that predictions are held against: those that constants were fitted on, those held out, and presets."""

from typing import Any

from benchmarks.answers import COMMON, RESIDENT, RUN, STREAMED, TWO, Answers
from benchmarks.training.rows import ROWS, STEPS, answers_of
from simpletuner_tui.presets import presets


def _of(batch: int, resolution: int, **changed: Any) -> Answers:
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

BESIDE_STOCK = {name: answers_of(row.setting, row.answers, STEPS) for name, row in ROWS.items()}
"""Those that ``benchmarks.training`` measures beside stock DeepSpeed."""
CALIBRATION: dict[str, Answers] = {
    **BESIDE_STOCK,
    "128x8 resident": _of(8, 128) | RESIDENT,
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
    "zero2 1024x4 two GPUs": _of(4, 1024) | TWO,
}
"""What the constants of ``launcher.estimate`` are fitted on."""
HOLD_OUT: dict[str, Answers] = {
    "512x4 streamed, no checkpointing": _of(4, 512, **FULL) | STREAMED,
    "768x2 accumulation 4 streamed": _of(2, 768, accelerate__gas=4) | STREAMED,
    "768x4 resident": _of(4, 768) | RESIDENT,
    "1024x4 resident, stage 1": _of(4, 1024) | RESIDENT | {"accelerate.zero_stage": 1},
    "lora 768x4 resident": _of(4, 768, **LORA) | RESIDENT,
    "zero3 768x4 Lion": _of(4, 768, deepspeed__optimizer__type="Lion", **STAGE_3),
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
    "zero2 768x8 two GPUs": _of(8, 768) | TWO,
    "zero3 768x4 two GPUs": _of(4, 768, **STAGE_3) | TWO,
}
"""Measured once the constants stood."""
PRESETS: dict[str, Answers] = {f"preset {preset.name}": RUN | preset.answers for preset in presets()}
"""Those that come with the program; constants were not fitted on them."""
