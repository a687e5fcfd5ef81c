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

LAUNCH: tuple[Rule, ...] = (
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
)
