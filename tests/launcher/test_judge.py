"""Settings judged as a whole: the launch's own rules and deepspeed.json's, each named by a field one can change."""

from dataclasses import replace

from launcher.config.setting import Level
from launcher.config.settings import Settings, read_settings
from launcher.estimate import SDXL
from launcher.judge import judge

TRAINING = {"pretrained_model_name_or_path": "/models/sdxl", "instance_data_dir": "/pictures"}
PLAIN = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "NO",
    "num_processes": 1,
    "mixed_precision": "bf16",
}


def plain(deepspeed: dict[str, object] | None = None, **training: object) -> Settings:
    settings, problems = read_settings(PLAIN, deepspeed or {}, {**TRAINING, **training})
    assert problems == []
    return settings


def named(settings: Settings) -> set[tuple[str, str]]:
    return {(problem.field, problem.rule) for problem in judge(settings, SDXL)}


def test_what_is_proposed_breaks_no_rule(make_settings):
    assert judge(make_settings(), SDXL) == []
    assert judge(plain(), SDXL) == []


def test_every_broken_rule_is_told_at_once_by_the_field_to_change(make_settings):
    settings = make_settings(
        offload_param_device="cpu", lr_warmup_steps=5000, learning_rate=0.0, **{"optimizer.params.betas": [0.9, 1.0]}
    )
    assert named(settings) == {
        ("deepspeed.zero_optimization.offload_param.device", "param-offload-needs-stage-3"),
        ("deepspeed.optimizer.params.betas", "two-betas"),
        ("training.lr_warmup_steps", "warmup-longer-than-run"),
        ("training.learning_rate", "nothing-learnt"),
    }


def test_without_deepspeed_what_holds_for_plain_pytorch_is_judged_and_nothing_else():
    broken = plain({"optimizer.params.betas": [0.9]}, lr_warmup_steps=5000)
    assert named(broken) == {
        ("deepspeed.optimizer.params.betas", "two-betas"),
        ("training.lr_warmup_steps", "warmup-longer-than-run"),
    }


def test_a_rule_of_the_launch_stands_beside_deepspeeds():
    problems = judge(plain({"optimizer.type": "Lion"}), SDXL)
    assert [(problem.rule, problem.level) for problem in problems] == [("lion-needs-deepspeed", Level.ERROR)]


def test_fp32_is_a_matter_of_a_large_model(make_settings):
    chosen = make_settings()
    settings = replace(chosen, deepspeed=replace(chosen.deepspeed, precision="no"))
    assert [problem.rule for problem in judge(settings, SDXL)] == ["no-precision"]
    assert judge(settings, replace(SDXL, parameters=1_819_092)) == []
