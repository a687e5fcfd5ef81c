"""accelerate's two files: the one its questionnaire writes, and the one a launch is given.

The questionnaire's file is kept as it is; the launch file is derived, because ``accelerate launch`` refuses
a ``deepspeed_config_file`` beside an inline stage, accumulation or precision.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.config.setting import Problem

PATHS_FROM_DEEPSPEED_CONFIG: dict[str, str] = {
    "zero_stage": "zero_optimization.stage",
    "offload_optimizer_device": "zero_optimization.offload_optimizer.device",
    "offload_param_device": "zero_optimization.offload_param.device",
    "offload_optimizer_nvme_path": "zero_optimization.offload_optimizer.nvme_path",
    "offload_param_nvme_path": "zero_optimization.offload_param.nvme_path",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_clipping": "gradient_clipping",
    "zero3_save_16bit_model": "zero_optimization.stage3_gather_16bit_weights_on_model_save",
}
"""Which DeepSpeed setting each answer in ``deepspeed_config`` owns."""

_OTHER_ACCELERATOR = "not launched from here: NVIDIA GPUs and CPUs only"

LAUNCHED = ("NO", "MULTI_GPU", "MULTI_CPU", "DEEPSPEED")
"""What a file's distributed_type may be to be launched from here."""

NOT_LAUNCHED: dict[str, str] = {
    "AMAZON_SAGEMAKER": "not launched from here",
    "MULTI_XPU": _OTHER_ACCELERATOR,
    "MULTI_HPU": _OTHER_ACCELERATOR,
    "MULTI_NPU": _OTHER_ACCELERATOR,
    "MULTI_MLU": _OTHER_ACCELERATOR,
    "MULTI_SDAA": _OTHER_ACCELERATOR,
    "MULTI_MUSA": _OTHER_ACCELERATOR,
    "MULTI_NEURON": _OTHER_ACCELERATOR,
    "XLA": _OTHER_ACCELERATOR,
    "FSDP": "not launched: training runs through DeepSpeed or plain PyTorch, not FSDP",
    "MEGATRON_LM": "not launched: training runs through DeepSpeed or plain PyTorch, not Megatron-LM",
    "mpirun": "not launched: processes of one machine are started without mpirun",
    "several machines": "not launched: runs are started on one machine",
    "fp8": "not launched: SDXL trains in bf16, fp16 or fp32 here",
    "dynamo": "not launched: the U-Net is not compiled here",
    "MoE": "not launched: SDXL has no mixture of experts",
}
"""Why what a file says is not launched from here: by the value it holds, or by what it is about."""


@dataclass(frozen=True, slots=True)
class LaunchSettings:
    """What ``accelerate launch`` needs to know."""

    num_processes: int = 1
    use_cpu: bool = False
    """Train on the CPU even where a GPU is."""
    deepspeed: bool = True
    """Without it plain PyTorch trains, everything on the device."""
    gpu_ids: str = "all"
    """Which GPUs, by index, joined by commas."""
    cpu_affinity: bool = False
    """Processes are bound to the NUMA node of their GPU."""

    def to_yaml_object(self) -> dict[str, Any]:
        """accelerate.yaml of a run directory; the JSON it names lies beside it."""
        several = "MULTI_CPU" if self.use_cpu else "MULTI_GPU"
        content = {
            "compute_environment": "LOCAL_MACHINE",
            "debug": False,
            "distributed_type": "DEEPSPEED" if self.deepspeed else several if self.num_processes > 1 else "NO",
            "downcast_bf16": "no",
            "enable_cpu_affinity": self.cpu_affinity,
            "machine_rank": 0,
            "main_training_function": "main",
            "num_machines": 1,
            "num_processes": self.num_processes,
            "rdzv_backend": "static",
            "same_network": True,
            "tpu_env": [],
            "tpu_use_cluster": False,
            "tpu_use_sudo": False,
            "use_cpu": self.use_cpu,
        }
        if self.deepspeed:
            return content | {"deepspeed_config": {"deepspeed_config_file": "deepspeed.json", "zero3_init_flag": False}}
        # The precision is the training's own business: deepspeed.json says it.
        return content | {"gpu_ids": self.gpu_ids, "mixed_precision": "no"}


def read_accelerate(
    content: Mapping[str, Any],
) -> tuple[LaunchSettings, dict[str, object], list[Problem]]:
    """What a questionnaire's file says to a launch on this machine.

    Args:
        content: the file as an object, as ``accelerate config`` writes it.

    Returns:
        Launch settings; the DeepSpeed values it owns, by JSON path; and what cannot be launched.
    """
    problems = _what_cannot_launch(content)
    uses_deepspeed = content.get("distributed_type") == "DEEPSPEED"
    deepspeed = (content.get("deepspeed_config") or {}) if uses_deepspeed else {}
    values: dict[str, object] = {
        path: deepspeed[key] for key, path in PATHS_FROM_DEEPSPEED_CONFIG.items() if key in deepspeed
    }
    if "deepspeed_config_file" not in deepspeed:
        # Not asked below stage 2, and not answered means none; clipping not wanted means none too.
        values.setdefault("zero_optimization.offload_optimizer.device", "none")
        values.setdefault("zero_optimization.offload_param.device", "none")
        values.setdefault("gradient_clipping", 0.0)
        precision = content.get("mixed_precision", "no")
        values["precision"] = "no" if precision == "fp8" else precision
    launch = LaunchSettings(
        num_processes=content.get("num_processes", 1),
        use_cpu=content.get("use_cpu", False),
        deepspeed=uses_deepspeed,
        gpu_ids=str(content.get("gpu_ids") or "all"),
        cpu_affinity=content.get("enable_cpu_affinity", False),
    )
    if not launch.deepspeed:
        # Clipping is a question of DeepSpeed's part; without it the usual one holds.
        values |= {"zero_optimization.stage": 0, "gradient_clipping": 1.0}
    return launch, values, problems


def _what_cannot_launch(content: Mapping[str, Any]) -> list[Problem]:
    if content.get("compute_environment") == "AMAZON_SAGEMAKER":
        return [_unlaunchable("environment", "AMAZON_SAGEMAKER")]
    problems = []
    kind = content.get("distributed_type", "NO")
    if kind not in LAUNCHED:
        taken = {"FSDP": "use_fsdp", "MEGATRON_LM": "use_megatron"}
        problems.append(_unlaunchable(taken.get(kind, "machine"), kind))
    if content.get("mpirun_config"):
        problems.append(_unlaunchable("use_mpirun", "mpirun"))
    if content.get("num_machines", 1) != 1:
        problems.append(_unlaunchable("num_machines", "several machines"))
    if content.get("num_processes", 1) < 1:
        problems.append(Problem("accelerate.num_processes", "must be at least 1"))
    if content.get("dynamo_config"):
        problems.append(_unlaunchable("use_dynamo", "dynamo"))
    if (content.get("deepspeed_config") or {}).get("deepspeed_moe_layer_cls_names"):
        problems.append(_unlaunchable("use_moe", "MoE"))
    if content.get("mixed_precision") == "fp8":
        problems.append(_unlaunchable("mixed_precision", "fp8"))
    return problems


def _unlaunchable(question: str, what: str) -> Problem:
    return Problem(f"accelerate.{question}", NOT_LAUNCHED[what], rule="launch")
