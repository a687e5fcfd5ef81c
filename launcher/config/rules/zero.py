"""Which ZeRO stage goes with which offload, optimizer and precision."""

from collections.abc import Callable
from dataclasses import dataclass

from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.setting import Level
from launcher.config.training import TrainingSettings


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that does not work, with the field to change and where it was learnt."""

    id: str
    field: str
    message: str
    broken: Callable[[DeepSpeedSettings, TrainingSettings], bool]
    source: str
    level: Level = Level.ERROR


RULES: tuple[Rule, ...] = (
    Rule(
        "offload-needs-zero",
        "deepspeed.zero_optimization.offload_optimizer.device",
        "the optimizer cannot be offloaded at ZeRO stage 0; choose stage 1, 2 or 3, or no offload",
        lambda ds, _: ds.stage == 0 and ds.offloads,
        source="deepspeed/ops/adam/cpu_adam.py asserts that parameters live on the CPU",
    ),
    Rule(
        "param-offload-needs-stage-3",
        "deepspeed.zero_optimization.offload_param.device",
        "parameters are offloaded at ZeRO stage 3 only; below it DeepSpeed ignores this without a word",
        lambda ds, _: ds.stage < 3 and ds.offload_param_device != "none",
        source="run: identical memory with and without it at stages 1 and 2",
        level=Level.WARNING,
    ),
    Rule(
        "nvme-unproven",
        "deepspeed.zero_optimization.offload_optimizer.device",
        "NVMe offload is not available yet: on drives that want 512-byte aligned memory DeepSpeed 0.19.8 "
        "corrupts gradients without a word; choose cpu",
        lambda ds, _: "nvme" in (ds.offload_optimizer_device, ds.offload_param_device),
        source="run: half of a swapped tensor's first update had the wrong sign",
    ),
    Rule(
        "lion-needs-offload",
        "deepspeed.optimizer.type",
        "Lion without offload needs a CUDA extension that is not proven here; offload the optimizer to cpu, "
        "or choose AdamW",
        lambda ds, _: ds.optimizer_type == "Lion" and not ds.offloads,
        source="run: FusedLion is a CUDA-only op",
    ),
    Rule(
        "two-betas",
        "deepspeed.optimizer.params.betas",
        "must be two numbers below 1, such as 0.9, 0.999",
        lambda ds, _: len(ds.betas) != 2 or not all(beta < 1 for beta in ds.betas),
        source="torch.optim.AdamW",
    ),
    Rule(
        "warmup-longer-than-run",
        "training.lr_warmup_steps",
        "warm-up is longer than the run: the learning rate never reaches its value",
        lambda _, training: training.optimization.lr_warmup_steps > training.optimization.max_train_steps,
        source="deepspeed/runtime/lr_schedules.py",
        level=Level.WARNING,
    ),
)
