"""Each rule fires on what breaks it, and on nothing else that stands by itself."""

from dataclasses import replace

import pytest

from launcher.config.deepspeed import DeepSpeedSettings, deepspeed_declarations
from launcher.config.rules import judge
from launcher.config.rules.zero import RULES
from launcher.config.setting import Level
from launcher.config.training import OptimizationSettings, TrainingSettings, training_declarations

NO_OFFLOAD = {"offload_optimizer_device": "none"}

BREAKS = [
    ("offload-needs-zero", {"stage": 0}, {}),
    ("param-offload-needs-stage-3", {"stage": 2, "offload_param_device": "cpu"}, {}),
    ("nvme-unproven", {"offload_optimizer_device": "nvme"}, {}),
    ("nvme-unproven", {"stage": 3, "offload_param_device": "nvme"}, {}),
    ("lion-needs-offload", {"optimizer_type": "Lion", **NO_OFFLOAD}, {}),
    ("two-betas", {"betas": (0.9,)}, {}),
    ("two-betas", {"betas": (0.9, 0.99, 0.999)}, {}),
    ("two-betas", {"betas": (0.9, 1.0)}, {}),
    ("warmup-longer-than-run", {}, {"lr_warmup_steps": 11, "max_train_steps": 10}),
]
KEEPS = [
    ("offload-needs-zero", {"stage": 1}, {}),
    ("offload-needs-zero", {"stage": 0, **NO_OFFLOAD}, {}),
    ("param-offload-needs-stage-3", {"stage": 3, "offload_param_device": "cpu"}, {}),
    ("nvme-unproven", {"stage": 3, "offload_param_device": "cpu"}, {}),
    ("lion-needs-offload", {"optimizer_type": "Lion"}, {}),
    ("lion-needs-offload", NO_OFFLOAD, {}),
    ("two-betas", {"betas": (0.0, 0.5)}, {}),
    ("warmup-longer-than-run", {}, {"lr_warmup_steps": 10, "max_train_steps": 10}),
]
IDS = [rule.id for rule in RULES]


def judged(deepspeed: dict, optimization: dict) -> list[str]:
    training = TrainingSettings(optimization=OptimizationSettings(**optimization))
    return [problem.rule for problem in judge(replace(DeepSpeedSettings(), **deepspeed), training)]


@pytest.mark.parametrize(("rule", "deepspeed", "optimization"), BREAKS)
def test_a_rule_fires_alone_on_what_breaks_it(rule, deepspeed, optimization):
    assert judged(deepspeed, optimization) == [rule]


@pytest.mark.parametrize(("rule", "deepspeed", "optimization"), KEEPS)
def test_a_rule_is_silent_next_to_what_breaks_it(rule, deepspeed, optimization):
    assert rule not in judged(deepspeed, optimization)


def test_the_defaults_break_no_rule():
    assert judge(DeepSpeedSettings(), TrainingSettings()) == []


@pytest.mark.parametrize("cases", [BREAKS, KEEPS], ids=["breaks", "keeps"])
def test_every_rule_has_a_case(cases):
    assert {rule for rule, *_ in cases} == set(IDS)
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize("rule", RULES, ids=IDS)
def test_a_rule_names_a_setting_its_source_and_what_is_wrong(rule):
    fields = {f"deepspeed.{path}" for path in deepspeed_declarations()}
    fields |= {f"training.{setting.key}" for _, setting in training_declarations()}
    assert rule.field in fields
    assert rule.source
    assert rule.message


def test_what_deepspeed_only_ignores_warns_and_what_it_gets_wrong_stops():
    levels = {rule.id: rule.level for rule in RULES}
    assert levels.pop("param-offload-needs-stage-3") is Level.WARNING
    assert levels.pop("warmup-longer-than-run") is Level.WARNING
    assert set(levels.values()) == {Level.ERROR}


def test_every_broken_rule_is_told_at_once():
    broken = judged({"stage": 0, "offload_optimizer_device": "nvme", "betas": (1.0,)}, {"lr_warmup_steps": 5000})
    assert broken == ["offload-needs-zero", "nvme-unproven", "two-betas", "warmup-longer-than-run"]
