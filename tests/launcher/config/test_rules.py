"""Each rule fires on what breaks it, and on nothing else that stands by itself."""

from dataclasses import replace

import pytest

from launcher.config.accelerate import Dynamo, LaunchSettings
from launcher.config.deepspeed import BLOCKS, SPARING_LINEAR, WHOLE_BLOCKS, DeepSpeedSettings, deepspeed_declarations
from launcher.config.rules import RULES, broken_rules
from launcher.config.setting import Level
from launcher.config.training import (
    AdapterSettings,
    EmaSettings,
    NotificationSettings,
    ObjectiveSettings,
    OptimizationSettings,
    RuntimeSettings,
    TrainingSettings,
    training_declarations,
)

NO_OFFLOAD = {"offload_optimizer_device": "none"}
MUON = {"optimizer_type": "Muon", "gradient_clipping": 0.0}
LORA = {"adapter": AdapterSettings(model_type="lora")}
FAST_LORA = {**LORA, "learning_rate": 1e-4}
ADAGRAD = {"optimizer_type": "Adagrad"}
GROUPS = {"weight_decay_exclude": "norms_and_biases"}
PLAIN = {"launch": LaunchSettings(deepspeed=False)}
COMPILED = {"launch": LaunchSettings(dynamo=Dynamo())}
IN_ONE_PIECE = {"launch": LaunchSettings(dynamo=Dynamo(fullgraph=True))}
FLASH = {"runtime": RuntimeSettings(attention_mechanism="flash")}
SWAPPED = {"runtime": RuntimeSettings(offload_param_path="/nvme")}
AVERAGED = {"ema": EmaSettings(use_ema=True)}
AVERAGED_ON_GPU = {"ema": EmaSettings(use_ema=True, ema_device="accelerator")}
ON_NVME = {"offload_optimizer_device": "nvme", "offload_optimizer_nvme_path": "/nvme"}
BF16_MASTERS = {"extra": {"bf16": {"enabled": True, "bf16_master_weights_and_grads": True}}}


def objective(**chosen) -> dict:
    return {"objective": ObjectiveSettings(**chosen)}


def in_blocks(*classes: str, **zero: object) -> dict:
    return {"extra": {"zero_optimization": {"leaf_module": {"classes": list(classes)}, **zero}}}


STAGE_3 = {"stage": 3, **in_blocks(*BLOCKS)}
LAYERS = {"stage": 3}
PLAIN_LINEAR = {"stage": 3, **in_blocks(*BLOCKS, memory_efficient_linear=False)}
ALL_KEPT = {"gradient_checkpointing": False}
WEBHOOK = {"notification": NotificationSettings(notify_webhook="https://hooks.slack.com/services/T0/B0/" + "X" * 24)}

BREAKS = [
    ("webhook-is-secret", {}, WEBHOOK),
    ("lora-in-whole-blocks", {**STAGE_3, **in_blocks("ResnetBlock2D", "BasicTransformerBlock")}, FAST_LORA),
    ("lora-in-whole-blocks", {**STAGE_3, **in_blocks("BasicTransformerBlock")}, FAST_LORA),
    ("fetched-layer-by-layer", LAYERS, {}),
    ("fetched-layer-by-layer", {**LAYERS, **in_blocks("BasicTransformerBlock")}, {}),
    ("weights-kept-for-linear-layers", PLAIN_LINEAR, ALL_KEPT),
    ("lion-needs-deepspeed", {"optimizer_type": "Lion", "stage": 0, **NO_OFFLOAD}, PLAIN),
    ("muon-needs-deepspeed", {"optimizer_type": "Muon", "stage": 0, **NO_OFFLOAD}, PLAIN),
    ("muon-decays-as-one", {**MUON, "scheduler_type": "WarmupDecayLR"}, {}),
    ("adagrad-decays-as-one", {**ADAGRAD, **NO_OFFLOAD}, GROUPS),
    ("lora-learns-faster", {}, LORA),
    ("compiled-at-stage-3", STAGE_3, COMPILED),
    ("regions-in-one-piece", {}, {"launch": LaunchSettings(dynamo=Dynamo(fullgraph=True, regional=True))}),
    ("flash-needs-half-precision", {"precision": "no"}, FLASH),
    ("zero-snr-needs-velocity", {}, objective(rescale_betas_zero_snr=True, prediction_type="epsilon")),
    ("min-snr-at-zero-snr", {}, objective(rescale_betas_zero_snr=True, snr_gamma=5.0)),
    ("timesteps-to-train", {}, objective(min_timestep=500, max_timestep=500)),
    ("offload-path-without-nvme", {}, SWAPPED),
    ("offload-path-without-nvme", {"stage": 2, **ON_NVME}, SWAPPED),
    ("offload-path-without-nvme", {**STAGE_3, **ON_NVME, "offload_optimizer_nvme_path": "/other"}, SWAPPED),
    ("ema-on-nvme", {**STAGE_3, **ON_NVME}, AVERAGED),
    ("ema-needs-fp32-masters", BF16_MASTERS, AVERAGED),
    ("ema-far-from-its-masters", {}, AVERAGED_ON_GPU),
]
KEEPS = [
    ("lora-in-whole-blocks", {**STAGE_3, **in_blocks("BasicTransformerBlock")}, {}),
    ("lora-in-whole-blocks", {**STAGE_3, **in_blocks("another.Block")}, LORA),
    ("lora-in-whole-blocks", {"stage": 2, **in_blocks("BasicTransformerBlock")}, LORA),
    ("fetched-layer-by-layer", STAGE_3, {}),
    ("fetched-layer-by-layer", {"stage": 2}, {}),
    ("fetched-layer-by-layer", LAYERS, FAST_LORA),
    ("fetched-layer-by-layer", LAYERS, PLAIN),
    ("fetched-layer-by-layer", LAYERS, {"launch": LaunchSettings(use_cpu=True)}),
    ("fetched-layer-by-layer", {**LAYERS, "offload_param_device": "nvme", "offload_param_nvme_path": "/nvme"}, {}),
    ("weights-kept-for-linear-layers", PLAIN_LINEAR, {}),
    ("weights-kept-for-linear-layers", STAGE_3, ALL_KEPT),
    ("weights-kept-for-linear-layers", {**PLAIN_LINEAR, "stage": 2}, ALL_KEPT),
    ("lion-needs-deepspeed", {"optimizer_type": "Adagrad", "stage": 0, **NO_OFFLOAD}, PLAIN),
    ("lion-needs-deepspeed", {"optimizer_type": "Lion"}, {}),
    ("muon-needs-deepspeed", MUON, {}),
    ("muon-needs-deepspeed", {"stage": 0, **NO_OFFLOAD}, PLAIN),
    ("muon-decays-as-one", MUON, {}),
    ("muon-decays-as-one", {"scheduler_type": "WarmupDecayLR"}, {}),
    ("adagrad-decays-as-one", {**ADAGRAD, **NO_OFFLOAD}, {}),
    ("adagrad-decays-as-one", ADAGRAD, GROUPS),
    ("adagrad-decays-as-one", NO_OFFLOAD, GROUPS),
    ("adagrad-decays-as-one", {**ADAGRAD, **NO_OFFLOAD, "stage": 0, "precision": "no"}, GROUPS),
    ("adagrad-decays-as-one", {**ADAGRAD, **NO_OFFLOAD}, {**GROUPS, **PLAIN}),
    ("adagrad-decays-as-one", {**ADAGRAD, **NO_OFFLOAD}, {**GROUPS, **LORA}),
    ("lora-learns-faster", {}, {**LORA, "learning_rate": 1e-4}),
    ("compiled-at-stage-3", {"stage": 2}, COMPILED),
    ("compiled-at-stage-3", STAGE_3, {}),
    ("one-graph-at-stage-3", STAGE_3, COMPILED),
    ("regions-in-one-piece", {}, IN_ONE_PIECE),
    ("regions-in-one-piece", {}, {"launch": LaunchSettings(dynamo=Dynamo(regional=True))}),
    ("one-graph-at-stage-3", {"stage": 2}, IN_ONE_PIECE),
    ("flash-needs-half-precision", {}, FLASH),
    ("flash-needs-half-precision", {"precision": "no"}, {**FLASH, "launch": LaunchSettings(use_cpu=True)}),
    ("zero-snr-needs-velocity", {}, objective(rescale_betas_zero_snr=True)),
    ("zero-snr-needs-velocity", {}, objective(prediction_type="epsilon")),
    ("min-snr-at-zero-snr", {}, objective(rescale_betas_zero_snr=True)),
    ("min-snr-at-zero-snr", {}, objective(snr_gamma=5.0)),
    ("timesteps-to-train", {}, objective(min_timestep=499, max_timestep=500)),
    ("offload-path-without-nvme", {**STAGE_3, **ON_NVME}, SWAPPED),
    ("offload-path-without-nvme", {**STAGE_3, **ON_NVME, "offload_optimizer_nvme_path": "/other"}, {}),
    ("ema-on-nvme", {**STAGE_3, **ON_NVME}, {}),
    ("ema-on-nvme", ON_NVME, AVERAGED),
    ("ema-on-nvme", {**STAGE_3, "offload_param_device": "nvme", "offload_param_nvme_path": "/nvme"}, AVERAGED),
    ("ema-needs-fp32-masters", BF16_MASTERS, {}),
    ("ema-needs-fp32-masters", {"extra": {"bf16": {"enabled": True}}}, AVERAGED),
    ("ema-far-from-its-masters", NO_OFFLOAD, AVERAGED_ON_GPU),
    ("ema-far-from-its-masters", {}, AVERAGED),
    ("webhook-is-secret", {}, {"notification": NotificationSettings(notify_webhook="https://ntfy.sh/my-training")}),
]
IDS = [rule.id for rule in RULES]


def judged(deepspeed: dict, rest: dict) -> list[str]:
    """Rules broken by DeepSpeed's settings, and by those of the training or the launch."""
    launch = rest.get("launch", LaunchSettings())
    topics = {
        "adapter": AdapterSettings(),
        "ema": EmaSettings(),
        "notification": NotificationSettings(),
        "objective": ObjectiveSettings(),
        "runtime": RuntimeSettings(),
    }
    topics |= {name: rest[name] for name in topics if name in rest}
    optimization = {key: value for key, value in rest.items() if key not in ("launch", *topics)}
    training = TrainingSettings(optimization=OptimizationSettings(**optimization), **topics)
    return [problem.rule for problem in broken_rules(launch, replace(DeepSpeedSettings(), **deepspeed), training)]


@pytest.mark.parametrize(("rule", "deepspeed", "rest"), BREAKS)
def test_a_rule_fires_alone_on_what_breaks_it(rule, deepspeed, rest):
    assert judged(deepspeed, rest) == [rule]


@pytest.mark.parametrize(("rule", "deepspeed", "rest"), KEEPS)
def test_a_rule_is_silent_next_to_what_breaks_it(rule, deepspeed, rest):
    assert rule not in judged(deepspeed, rest)


def test_the_defaults_break_no_rule():
    assert broken_rules(LaunchSettings(), DeepSpeedSettings(), TrainingSettings()) == []


def test_a_graph_in_one_piece_is_refused_beside_the_warning_that_stage_3_compiles_little():
    assert judged(STAGE_3, IN_ONE_PIECE) == ["compiled-at-stage-3", "one-graph-at-stage-3"]


@pytest.mark.parametrize("cases", [BREAKS, KEEPS], ids=["breaks", "keeps"])
def test_every_rule_has_a_case(cases):
    assert {rule for rule, *_ in cases} | {"one-graph-at-stage-3"} == set(IDS)
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_a_rule_names_a_setting_its_source_and_what_is_wrong(rule):
    fields = {f"deepspeed.{path}" for path in deepspeed_declarations()}
    fields |= {f"training.{setting.key}" for _, setting in training_declarations()}
    fields |= {"accelerate.use_dynamo", "accelerate.dynamo_use_fullgraph"}
    fields |= {f"deepspeed.{'.'.join(keys)}" for keys in (WHOLE_BLOCKS, SPARING_LINEAR)}  # of deepspeed.extra
    assert rule.field in fields
    assert rule.source
    assert rule.message


def test_what_deepspeed_only_ignores_warns_and_what_it_gets_wrong_stops():
    warned = {rule.id for rule in RULES if rule.level is Level.WARNING}
    ignored = {"compiled-at-stage-3", "lora-learns-faster", "min-snr-at-zero-snr", "offload-path-without-nvme"}
    assert warned == ignored | {"fetched-layer-by-layer", "weights-kept-for-linear-layers", "webhook-is-secret"}
