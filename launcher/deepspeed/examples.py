"""Templates that come with the program: SimpleTuner's own examples, corrected, with what was corrected."""

from typing import Any

from launcher.config.deepspeed import DeepSpeedSettings
from launcher.deepspeed.template import Template

_PIN: dict[str, Any] = {"pin_memory": True}
_SETTINGS = DeepSpeedSettings()


def _fitted(*keys: str) -> dict[str, Any]:
    """Sizes that are fitted to SDXL, as the settings have them."""
    return {key: getattr(_SETTINGS, key) for key in keys}


EXAMPLES = (
    Template(
        "stage-2-cpu",
        "SimpleTuner's first example: stage 2 with the optimizer on the CPU, 8 pictures a step.",
        {
            "zero_optimization": {
                "stage": 2,
                "offload_optimizer": {"device": "cpu", **_PIN},
                **_fitted("reduce_bucket_size", "allgather_bucket_size", "overlap_comm"),
            },
            "bf16": {"enabled": True},
            "gradient_accumulation_steps": 4,
            "gradient_clipping": 1.0,
            "optimizer": {
                "type": "AdamW",
                "params": {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
            },
            "scheduler": {
                "type": "WarmupLR",
                "params": {"warmup_min_lr": 0, "warmup_max_lr": 1e-4, "warmup_num_steps": 500},
            },
            "train_micro_batch_size_per_gpu": 2,
        },
        corrected=(
            "zero_optimization.offload_param is left out: at stage 2 DeepSpeed ignores it",
            "bf16.enabled is on: without it everything is in fp32",
            "train_batch_size is left out: 8 holds on one GPU only, and is computed",
            "zero_optimization.reduce_bucket_size is 3e7: DeepSpeed's own 5e8 takes 954 MiB of the GPU",
            "zero_optimization.overlap_comm is on: gradients go to the host while the backward pass goes on",
        ),
    ),
    Template(
        "stage-3-nvme",
        "SimpleTuner's NVMe example: stage 3 with parameters on NVMe; the folder is the run's offload_param_path.",
        {
            "zero_optimization": {
                "stage": 3,
                **_fitted(
                    "sub_group_size",
                    "reduce_bucket_size",
                    "stage3_max_live_parameters",
                    "stage3_max_reuse_distance",
                ),
                "offload_param": {"device": "nvme", **_PIN},
                "offload_optimizer": {"device": "nvme", **_PIN},
            },
            "bf16": {"enabled": True},
        },
        corrected=(
            "zero_optimization.offload_optimizer is on NVMe too: the optimizer's states are six times the parameters",
            "zero_optimization.offload_param.nvme_path is left out: it is filled from offload_param_path",
            "zero_optimization.offload_param.buffer_size is left out: it is fitted to the largest parameter, where 1e8 "
            "locks 1 GB",
            "zero_optimization.sub_group_size is 1e8: DeepSpeed's own 1e9 makes each NVMe buffer 4 GB",
            "zero_optimization.reduce_bucket_size, stage3_max_live_parameters and stage3_max_reuse_distance are fitted "
            "to SDXL: DeepSpeed's own take 3 GB of the GPU",
            "optimizer, schedule, batch and bf16 were missing: the run says them",
        ),
    ),
)
