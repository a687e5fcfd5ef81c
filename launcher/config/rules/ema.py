"""Where a moving average of the weights cannot be kept."""

from launcher.config.accelerate import LaunchSettings
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.rules.launch import Rule
from launcher.config.training import TrainingSettings

_IN_HALF = (("bf16", "bf16_master_weights_and_grads"), ("fp16", "fp16_master_weights_and_grads"))


def _on_nvme(launch: LaunchSettings, ds: DeepSpeedSettings, training: TrainingSettings) -> bool:
    return training.ema.use_ema and launch.deepspeed and "offload_optimizer" in ds.nvme_parts


def _masters_in_half(launch: LaunchSettings, ds: DeepSpeedSettings, training: TrainingSettings) -> bool:
    return training.ema.use_ema and launch.deepspeed and any(ds.extra.get(part, {}).get(key) for part, key in _IN_HALF)


def _far_from_masters(launch: LaunchSettings, ds: DeepSpeedSettings, training: TrainingSettings) -> bool:
    return training.ema.use_ema and training.ema.ema_device == "accelerator" and launch.deepspeed and ds.offloads


EMA: tuple[Rule, ...] = (
    Rule(
        "ema-on-nvme",
        "training.use_ema",
        "the average is taken from the fp32 masters, which are in memory for moments only where the optimizer is "
        "offloaded to NVMe; offload it to cpu, or train without a moving average",
        _on_nvme,
        source="code: deepspeed/runtime/zero/stage3.py swaps each group in, updates it and swaps it out",
    ),
    Rule(
        "ema-needs-fp32-masters",
        "training.use_ema",
        "the average is taken from fp32 masters, and these are kept in 16 bits, where what a step adds is mostly lost; "
        "turn master_weights_and_grads off, or train without a moving average",
        _masters_in_half,
        source="run: 16-bit masters lose 92 % of the movement at a learning rate of 1e-5",
    ),
    Rule(
        "ema-far-from-its-masters",
        "training.ema_device",
        "the optimizer is offloaded, so the masters are in host memory: for an average on the GPU they would cross the "
        "bus at every step; answer cpu",
        _far_from_masters,
        source="4 bytes a parameter each step, for a sum that the CPU takes where they are",
    ),
)
