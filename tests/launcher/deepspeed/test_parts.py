"""A configuration shared out over the settings means what it meant, whatever the settings can hold of it."""

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.config.deepspeed import DeepSpeedSettings, read_deepspeed, to_deepspeed_json
from launcher.config.setting import Level
from launcher.deepspeed.fields import FIELDS
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.parts import parts_of
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT, View

RUN = RunFacts()
INSTALLED = read_installed()
CHANGES_NOTHING = {"steps_per_print"}
"""Fields that the settings write otherwise, and that train the same."""


def normal(config: dict) -> dict:
    done = normalise(config, RUN, INSTALLED)
    assert [problem for problem in done.problems if problem.level is Level.ERROR] == []
    return done.config


def written(config: dict, run: RunFacts = RUN) -> dict:
    """What a launch would write for a configuration, and the settings it went through."""
    parts = parts_of(config, run)
    settings, problems = read_deepspeed(parts.deepspeed, parts.extra)
    assert problems == []
    training = {key: parts.training.get(key, getattr(run, key)) for key in ("train_batch_size", "learning_rate")}
    return to_deepspeed_json(
        settings,
        **training,
        warmup_steps=parts.training.get("lr_warmup_steps", run.lr_warmup_steps),
        total_steps=run.max_train_steps,
    )


def effective(config: dict) -> dict[str, Any]:
    """Every field's value as DeepSpeed has it, where one of another type does not stand in the way."""
    view = View(config)
    values = {path: view.get(path) for path in FIELDS if path not in CHANGES_NOTHING}
    values["zero_optimization.overlap_comm"] = (
        view.stage == 3
        if values["zero_optimization.overlap_comm"] is None
        else values["zero_optimization.overlap_comm"]
    )
    if view.get("optimizer.params.torch_adam") and not view.has("optimizer.params.weight_decay"):
        values["optimizer.params.weight_decay"] = 0.01
    if view.scheduler == "WarmupLR" and values["scheduler.params.warmup_max_lr"] is None:
        values["scheduler.params.warmup_max_lr"] = values["optimizer.params.lr"]
    if values["train_batch_size"] is None:
        values["train_batch_size"] = values["train_micro_batch_size_per_gpu"] * values["gradient_accumulation_steps"]
    return {path: list(value) if isinstance(value, tuple) else value for path, value in values.items()}


CASES: dict[str, dict] = {
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


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_a_launch_trains_what_the_file_says(config):
    config = normal(config)
    before = json.dumps(config)
    again = json.loads(json.dumps(written(config)))
    assert effective(again) == effective(config)
    assert json.dumps(config) == before


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_what_no_field_knows_is_written_back_untouched(config):
    config = normal(config)
    again = written(config)
    for key in ("made_up", "a.b", "none"):
        assert again.get(key, ABSENT) == config.get(key, ABSENT)


def test_what_the_settings_can_say_is_not_said_twice():
    config = normal(CASES["stage 3"] | {"made_up": 1})
    parts = parts_of(config, RUN)
    assert parts.deepspeed["zero_optimization.stage"] == 3
    assert parts.deepspeed["precision"] == "bf16"
    assert parts.deepspeed["zero_optimization.sub_group_size"] == 1_000_000_000  # DeepSpeed's own, not ours
    assert parts.extra == {"made_up": 1}
    assert parts.training == {}


def test_the_runs_own_settings_are_named_where_the_file_says_otherwise():
    config = normal(
        {
            "train_micro_batch_size_per_gpu": 4,
            "optimizer": {"type": "AdamW", "params": {"lr": 3e-4}},
            "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 11}},
        }
    )
    parts = parts_of(config, RUN)
    assert parts.training == {"train_batch_size": 4, "learning_rate": 3e-4, "lr_warmup_steps": 11}
    assert parts.extra == {}


@pytest.mark.parametrize("stage", range(4))
@pytest.mark.parametrize("precision", ["no", "fp16", "bf16"])
def test_what_settings_write_is_shared_out_as_the_same_settings(stage, precision):
    offloads = [("none", "none")]
    if stage:
        offloads += [("cpu", "none")]
    if stage == 3:
        offloads += [("cpu", "cpu"), ("none", "cpu")]
    schedules = ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR")
    for (states, parameters), optimizer, scheduler, number in product(
        offloads, ("AdamW", "Adam", "Adagrad"), schedules, (1, 2)
    ):
        settings = DeepSpeedSettings(
            stage=stage,
            precision=precision,
            gradient_accumulation_steps=number,
            gradient_clipping=number - 1.0,
            offload_optimizer_device=states,
            offload_optimizer_pin_memory=states == "none" or number == 1,
            offload_param_device=parameters,
            reduce_bucket_size=50_000_000 * number if stage else 500_000_000,
            allgather_bucket_size=500_000_000 if stage in (0, 3) else 50_000_000,
            sub_group_size=100_000_000 * number if stage == 3 else 1_000_000_000,
            overlap_comm=bool(stage) and number == 2,
            optimizer_type=optimizer,
            weight_decay=0.1 * number,
            betas=(0.9, 0.999) if optimizer == "Adagrad" else (0.8, 0.95),
            scheduler_type=scheduler,
            warmup_type="log" if scheduler == "WarmupCosineLR" else "linear",
        )
        content = to_deepspeed_json(
            settings,
            train_batch_size=RUN.train_batch_size,
            learning_rate=RUN.learning_rate,
            warmup_steps=RUN.lr_warmup_steps,
            total_steps=RUN.max_train_steps,
        )
        parts = parts_of(json.loads(json.dumps(content)), RUN)
        again, problems = read_deepspeed(parts.deepspeed, parts.extra)
        assert problems == []
        assert parts.extra == {}
        assert again == settings


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab.", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("xy.", max_size=2), inner, max_size=2),
    max_leaves=6,
)


@given(st.dictionaries(st.text("xyz.", min_size=1, max_size=3), VALUES, max_size=4))
def test_keys_of_any_kind_survive(unknown):
    assert written(normal({**unknown, "zero_optimization": {"stage": 2}})) | unknown == written(
        normal(unknown | {"zero_optimization": {"stage": 2}})
    )
