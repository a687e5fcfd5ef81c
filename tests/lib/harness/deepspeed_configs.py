"""DeepSpeed configurations of many kinds, and what DeepSpeed makes of one."""

from typing import Any

from launcher.deepspeed.fields import FIELDS
from launcher.deepspeed.view import View

CHANGES_NOTHING = {"steps_per_print"}
"""Fields that the settings write otherwise, and that train the same."""


def effective(config: dict) -> dict[str, Any]:
    """Every field's value as DeepSpeed has it, of those that have an effect at the stage."""
    view = View(config)
    values = {
        path: view.get(path)
        for path, field in FIELDS.items()
        if path not in CHANGES_NOTHING and (field.stages is None or view.stage in field.stages)
    }
    if values.get("zero_optimization.overlap_comm", False) is None:
        values["zero_optimization.overlap_comm"] = view.stage == 3
    if view.get("optimizer.params.torch_adam") and not view.has("optimizer.params.weight_decay"):
        values["optimizer.params.weight_decay"] = 0.01
    if view.scheduler == "WarmupLR" and values["scheduler.params.warmup_max_lr"] is None:
        values["scheduler.params.warmup_max_lr"] = values["optimizer.params.lr"]
    if values["train_batch_size"] is None:
        values["train_batch_size"] = values["train_micro_batch_size_per_gpu"] * values["gradient_accumulation_steps"]
    return {path: list(value) if isinstance(value, tuple) else value for path, value in values.items()}


CONFIGS: dict[str, dict] = {
    "nothing": {},
    "stage 1 on the CPU": {"zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}}},
    "buckets of its own": {"zero_optimization": {"stage": 2, "reduce_bucket_size": 7_000_000}},
    "stage 3": {"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}, "bf16": {"enabled": True}},
    "fp16": {"fp16": {"enabled": True, "initial_scale_power": 12}, "zero_optimization": {"stage": 2}},
    "fp32": {"bf16": {"enabled": False}, "zero_optimization": {"stage": 2}},
    "autocast": {"torch_autocast": {"enabled": True}, "zero_optimization": {"stage": 1}},
    "its own batch": {"train_batch_size": 8, "train_micro_batch_size_per_gpu": 2},
    "its own rate": {"optimizer": {"type": "Adam", "params": {"lr": 3e-4, "weight_decay": 0.1, "adam_w_mode": False}}},
    "torch's Adam": {"optimizer": {"type": "AdamW", "params": {"torch_adam": True, "fused": True}}},
    "a schedule of its own": {
        "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 7, "total_num_steps": 300}}
    },
    "a schedule nobody asks for": {
        "scheduler": {"type": "OneCycle", "params": {"cycle_min_lr": 1e-6, "cycle_max_lr": 1e-5}}
    },
    "no warm-up that is asked": {"scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": 99}}},
    "unknown keys": {"zero_optimization": {"stage": 2}, "made_up": {"deep": [1, {"c": None}]}, "a.b": 1, "none": None},
    "diagnostics": {"wall_clock_breakdown": True, "flops_profiler": {"enabled": True}, "steps_per_print": 5},
    "a folder": {
        "zero_optimization": {
            "stage": 3,
            "offload_optimizer": {"device": "nvme", "nvme_path": "/fast"},
            "sub_group_size": 5,
        }
    },
}
"""None of them breaks a rule that is an error."""
