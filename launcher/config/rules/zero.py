"""Which ZeRO stage goes with which offload, optimizer, precision and compiler."""

from collections.abc import Callable
from dataclasses import dataclass

from launcher.config.accelerate import LaunchSettings
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.setting import Level
from launcher.config.training import TrainingSettings


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that does not work, with the field to change and where it was learnt."""

    id: str
    field: str
    message: str
    broken: Callable[[LaunchSettings, DeepSpeedSettings, TrainingSettings], bool]
    source: str
    level: Level = Level.ERROR


LION_NEEDS_DEEPSPEED = "plain PyTorch has no Lion; choose AdamW, or DeepSpeed with the optimizer offloaded to cpu"
MUON_NEEDS_DEEPSPEED = "Muon is DeepSpeed's here; choose AdamW, or DeepSpeed"

RULES: tuple[Rule, ...] = (
    Rule(
        "offload-needs-zero",
        "deepspeed.zero_optimization.offload_optimizer.device",
        "the optimizer cannot be offloaded at ZeRO stage 0; choose stage 1, 2 or 3, or no offload",
        lambda _, ds, __: ds.stage == 0 and ds.offloads,
        source="deepspeed/ops/adam/cpu_adam.py asserts that parameters live on the CPU",
    ),
    Rule(
        "param-offload-needs-stage-3",
        "deepspeed.zero_optimization.offload_param.device",
        "parameters are offloaded at ZeRO stage 3 only; below it DeepSpeed ignores this without a word",
        lambda _, ds, __: ds.stage < 3 and ds.offload_param_device != "none",
        source="run: identical memory with and without it at stages 1 and 2",
        level=Level.WARNING,
    ),
    Rule(
        "nvme-unproven",
        "deepspeed.zero_optimization.offload_optimizer.device",
        "NVMe offload is not available yet: on drives that want 512-byte aligned memory DeepSpeed 0.19.8 "
        "corrupts gradients without a word; choose cpu",
        lambda _, ds, __: "nvme" in (ds.offload_optimizer_device, ds.offload_param_device),
        source="run: half of a swapped tensor's first update had the wrong sign",
    ),
    Rule(
        "lion-needs-offload",
        "deepspeed.optimizer.type",
        "Lion without offload needs a CUDA extension that is not proven here; offload the optimizer to cpu, "
        "or choose AdamW",
        lambda launch, ds, _: launch.deepspeed and ds.optimizer_type == "Lion" and not ds.offloads,
        source="run: FusedLion is a CUDA-only op",
    ),
    Rule(
        "lion-needs-deepspeed",
        "deepspeed.optimizer.type",
        LION_NEEDS_DEEPSPEED,
        lambda launch, ds, _: not launch.deepspeed and ds.optimizer_type == "Lion",
        source="torch.optim has none",
    ),
    Rule(
        "muon-needs-deepspeed",
        "deepspeed.optimizer.type",
        MUON_NEEDS_DEEPSPEED,
        lambda launch, ds, _: not launch.deepspeed and ds.optimizer_type == "Muon",
        source="torch.optim.Muon is another: it takes no other weights beside matrices",
    ),
    Rule(
        "muon-and-clipping",
        "deepspeed.gradient_clipping",
        "from stage 1 on DeepSpeed clips Muon's update instead of its gradient, and that has a norm of about 1,200 for "
        "SDXL whatever the gradients are: Muon hardly learns; do not clip, which is 0",
        lambda launch, ds, _: (
            launch.deepspeed and ds.optimizer_type == "Muon" and ds.stage > 0 and ds.gradient_clipping > 0
        ),
        source="run: a norm of 50 for the demo's 135 matrices, and a 50th of the step without clipping",
        level=Level.WARNING,
    ),
    Rule(
        "muon-decays-as-one",
        "deepspeed.scheduler.type",
        "WarmupDecayLR has one learning rate for Muon's weights and Adam's; choose WarmupLR or WarmupCosineLR",
        lambda _, ds, __: ds.optimizer_type == "Muon" and ds.scheduler_type == "WarmupDecayLR",
        source="deepspeed/runtime/lr_schedules.py: without warmup_max_lr it takes 0.001 for both",
    ),
    Rule(
        "compiled-at-stage-3",
        "accelerate.use_dynamo",
        "at ZeRO stage 3 DeepSpeed fetches each layer's weights from Python, where torch.compile stops: it compiles "
        "single layers, for minutes, and little gets faster; choose stage 2, or do not compile",
        lambda launch, ds, _: launch.dynamo is not None and launch.deepspeed and ds.stage == 3,
        source="run: 96 graphs with 224 operations, where stage 2 gave 2 with 958",
        level=Level.WARNING,
    ),
    Rule(
        "one-graph-at-stage-3",
        "accelerate.dynamo_use_fullgraph",
        "at ZeRO stage 3 no model compiles in one piece: DeepSpeed fetches each layer's weights from Python; answer "
        "no, or choose stage 2",
        lambda launch, ds, _: (
            launch.dynamo is not None and launch.dynamo.fullgraph and launch.deepspeed and ds.stage == 3
        ),
        source="run: torch._dynamo.exc.Unsupported at the first layer's hook",
    ),
    Rule(
        "regions-in-one-piece",
        "accelerate.dynamo_use_fullgraph",
        "with regional compilation torch finds single layers beside the blocks in which it has nothing to compile, and "
        "in fullgraph mode that is an error; answer no to one of the two",
        lambda launch, _, __: launch.dynamo is not None and launch.dynamo.fullgraph and launch.dynamo.regional,
        source="run: torch 2.13 found no compiled frames in the first convolution",
    ),
    Rule(
        "two-betas",
        "deepspeed.optimizer.params.betas",
        "must be two numbers below 1, such as 0.9, 0.999",
        lambda _, ds, __: len(ds.betas) != 2 or not all(beta < 1 for beta in ds.betas),
        source="torch.optim.AdamW",
    ),
    Rule(
        "warmup-longer-than-run",
        "training.lr_warmup_steps",
        "warm-up is longer than the run: the learning rate never reaches its value",
        lambda _, __, training: training.optimization.lr_warmup_steps > training.optimization.max_train_steps,
        source="deepspeed/runtime/lr_schedules.py",
        level=Level.WARNING,
    ),
)
