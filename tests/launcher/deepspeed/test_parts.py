"""A configuration shared out over the settings means what it meant, whatever the settings can hold of it."""

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.deepspeed_configs import CONFIGS, effective
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import read_deepspeed, to_deepspeed_json
from launcher.config.setting import Level
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.parts import parts_of
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT

RUN = RunFacts()
INSTALLED = read_installed()


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


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_launch_trains_what_the_file_says(config):
    config = normal(config)
    before = json.dumps(config)
    again = json.loads(json.dumps(written(config)))
    assert effective(again) == effective(config)
    assert json.dumps(config) == before


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_what_no_field_knows_is_written_back_untouched(config):
    config = normal(config)
    again = written(config)
    for key in ("made_up", "a.b", "none"):
        assert again.get(key, ABSENT) == config.get(key, ABSENT)


def test_what_the_settings_can_say_is_not_said_twice():
    config = normal(CONFIGS["stage 3"] | {"made_up": 1})
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
        offloads += [("cpu", "cpu"), ("none", "cpu"), ("nvme", "cpu"), ("nvme", "nvme")]
    schedules = ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR")
    for (states, parameters), optimizer, scheduler, number in product(
        offloads, ("AdamW", "Adam", "Adagrad", "Muon"), schedules, (1, 2)
    ):
        settings = DeepSpeedSettings(
            stage=stage,
            precision=precision,
            gradient_accumulation_steps=number,
            gradient_clipping=number - 1.0,
            offload_optimizer_device=states,
            offload_optimizer_pin_memory=states == "none" or number == 1,
            offload_optimizer_nvme_path="/nvme" if states == "nvme" else "",
            offload_param_device=parameters,
            offload_param_nvme_path="/nvme" if parameters == "nvme" else "",
            offload_param_buffer_size=60_000_000 if parameters == "nvme" else 30_408_704,
            stage3_prefetch_bucket_size=0 if parameters == "nvme" else 40_000_000,
            reduce_bucket_size=30_000_000 * number if stage else 30_000_000,
            sub_group_size=100_000_000 * number if stage == 3 else 100_000_000,
            overlap_comm=not stage or number == 2,
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
