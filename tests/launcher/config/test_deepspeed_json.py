"""deepspeed.json: written for each stage, accepted by DeepSpeed itself, opened again without loss."""

import json
import subprocess
import sys
from dataclasses import replace
from itertools import product

import pytest

from launcher.config.deepspeed import JSON_PATHS, DeepSpeedSettings, deepspeed_declarations
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.nested import with_overrides
from launcher.config.setting import declarations
from launcher.deepspeed.installed import TESTED
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.run_facts import SDXL_LARGEST_PARAMETER, RunFacts

STAGE_3_ONLY = {
    "sub_group_size",
    "stage3_prefetch_bucket_size",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_param_persistence_threshold",
    "stage3_gather_16bit_weights_on_model_save",
}
ALWAYS = {"stage", "reduce_bucket_size", "overlap_comm"}
OPTIMIZERS = ("AdamW", "Adam", "Adagrad", "Lion", "Muon")
SCHEDULERS = ("WarmupLR", "WarmupDecayLR", "WarmupCosineLR")


def written(**changed) -> dict:
    settings = replace(DeepSpeedSettings(), **changed)
    return to_deepspeed_json(settings, train_batch_size=3, learning_rate=2e-6, warmup_steps=7, total_steps=90)


# written


def test_every_setting_has_a_place_of_its_own_in_the_json():
    assert set(JSON_PATHS) == {setting.key for setting in declarations(DeepSpeedSettings)}
    assert len(deepspeed_declarations()) == len(JSON_PATHS)


@pytest.mark.parametrize(
    ("stage", "offload", "keys"),
    [
        (0, "none", {"stage"}),
        (0, "cpu", {"stage"}),
        (1, "none", ALWAYS | {"allgather_bucket_size", "contiguous_gradients"}),
        (2, "cpu", ALWAYS | {"allgather_bucket_size", "contiguous_gradients", "offload_optimizer"}),
        (3, "none", ALWAYS | STAGE_3_ONLY),
        (3, "cpu", ALWAYS | STAGE_3_ONLY | {"offload_optimizer"}),
    ],
)
def test_a_stage_gets_its_own_keys_only(stage, offload, keys):
    content = written(stage=stage, offload_optimizer_device=offload)
    assert set(content["zero_optimization"]) == keys
    assert content["zero_optimization"]["stage"] == stage


def test_the_bucket_holds_sdxls_largest_parameter_and_little_more():
    assert SDXL_LARGEST_PARAMETER <= DeepSpeedSettings().reduce_bucket_size < 1.05 * SDXL_LARGEST_PARAMETER


def test_what_the_run_determines_is_written():
    content = written(gradient_accumulation_steps=4, gradient_clipping=0.0)
    assert content["train_micro_batch_size_per_gpu"] == 3
    assert content["gradient_accumulation_steps"] == 4
    # DeepSpeed takes a clipping that is left out for 1.0, so that 0 must stand there.
    assert content["gradient_clipping"] == 0.0
    assert "train_batch_size" not in content


@pytest.mark.parametrize(("precision", "sections"), [("no", set()), ("bf16", {"bf16"}), ("fp16", {"fp16"})])
def test_a_precision_enables_its_section(precision, sections):
    content = written(precision=precision)
    assert {"bf16", "fp16"} & set(content) == sections
    for section in sections:
        assert content[section] == {"enabled": True}


@pytest.mark.parametrize(
    ("device", "section"),
    [
        ("none", None),
        ("cpu", {"device": "cpu", "pin_memory": False}),
        ("nvme", {"device": "nvme", "pin_memory": False, "nvme_path": "/nvme"}),
    ],
)
@pytest.mark.parametrize("part", ["offload_optimizer", "offload_param"])
def test_an_offload_section_names_device_pinning_and_path(part, device, section):
    changed = {f"{part}_device": device, f"{part}_pin_memory": False, f"{part}_nvme_path": "/nvme"}
    below = {key: value for key, value in (section or {}).items() if part == "offload_optimizer" or key != "pin_memory"}
    assert written(stage=2, **changed)["zero_optimization"].get(part, {}) == below
    if (part, device) == ("offload_param", "nvme"):
        section = {**section, "buffer_size": 30_408_704}
    assert written(stage=3, **changed)["zero_optimization"].get(part) == section


def test_a_buffer_holds_sdxls_largest_parameter_as_the_builder_fits_it():
    content = written(stage=3, offload_param_device="nvme", offload_param_nvme_path="/nvme")
    written_size = content["zero_optimization"]["offload_param"].pop("buffer_size")
    fitted = normalise(content, RunFacts(), TESTED).config
    assert fitted["zero_optimization"]["offload_param"]["buffer_size"] == written_size


@pytest.mark.parametrize(
    ("optimizer", "params"),
    [
        ("AdamW", {"lr", "betas", "eps", "weight_decay"}),
        ("Adam", {"lr", "betas", "eps", "weight_decay"}),
        ("Adagrad", {"lr", "eps", "weight_decay"}),
        ("Lion", {"lr", "betas", "weight_decay"}),
        ("Muon", {"lr", "muon_lr", "momentum", "betas", "eps", "weight_decay"}),
    ],
)
def test_an_optimizer_gets_the_parameters_its_class_takes(optimizer, params):
    content = written(optimizer_type=optimizer)["optimizer"]
    assert content["type"] == optimizer
    assert set(content["params"]) == params
    assert content["params"]["lr"] == 2e-6


@pytest.mark.parametrize(
    ("scheduler", "params"),
    [
        ("WarmupLR", {"warmup_min_lr": 0.0, "warmup_max_lr": 2e-6, "warmup_num_steps": 7, "warmup_type": "linear"}),
        (
            "WarmupDecayLR",
            {
                "warmup_min_lr": 0.0,
                "warmup_max_lr": 2e-6,
                "warmup_num_steps": 7,
                "warmup_type": "linear",
                "total_num_steps": 90,
            },
        ),
        ("WarmupCosineLR", {"warmup_num_steps": 7, "total_num_steps": 90}),
    ],
)
def test_a_schedule_reaches_the_learning_rate_and_ends_with_the_run(scheduler, params):
    content = written(scheduler_type=scheduler, warmup_type="linear")["scheduler"]
    assert content == {"type": scheduler, "params": params}


def test_muon_goes_up_to_two_learning_rates_and_does_without_reduce_scatter():
    content = written(optimizer_type="Muon", muon_lr=3e-5, stage=3)
    assert content["scheduler"] == {
        "type": "WarmupLR",
        "params": {"warmup_min_lr": 0.0, "warmup_num_steps": 7, "warmup_type": "log"},
    }
    assert (content["optimizer"]["params"]["lr"], content["optimizer"]["params"]["muon_lr"]) == (2e-6, 3e-5)
    assert content["zero_optimization"]["reduce_scatter"] is False
    assert "reduce_scatter" not in written(optimizer_type="Muon")["zero_optimization"]
    assert "reduce_scatter" not in written(stage=3)["zero_optimization"]


def test_deepspeed_itself_accepts_every_json_that_is_written():
    """The only test here that starts DeepSpeed; in a process of its own, so that this one stays without torch."""
    contents = [
        written(stage=stage, offload_optimizer_device=offload, offload_param_device=parameters, precision=precision)
        for stage, offload, parameters, precision in product(
            range(4), ("none", "cpu", "nvme"), ("none", "cpu"), ("no", "bf16", "fp16")
        )
    ]
    contents += [written(optimizer_type=o, scheduler_type=s) for o, s in product(OPTIMIZERS, SCHEDULERS)]
    wrong = [{**written(), "zero_optimization": {"stagee": 2}}]
    script = """
import json, sys
from deepspeed.runtime.config import DeepSpeedConfig
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from deepspeed.runtime.lr_schedules import WarmupCosineLR, WarmupDecayLR, WarmupLR
import inspect

accepted = []
for content in json.load(sys.stdin):
    try:
        zero = DeepSpeedZeroConfig(**content["zero_optimization"])
        whole = DeepSpeedConfig(content)
        assert int(zero.stage) == int(whole.zero_config.stage) == content["zero_optimization"]["stage"]
        schedule = {c.__name__: c for c in (WarmupLR, WarmupDecayLR, WarmupCosineLR)}[whole.scheduler_name]
        inspect.signature(schedule).bind(None, **whole.scheduler_params)
        assert whole.gradient_clipping == content["gradient_clipping"]
        accepted.append(True)
    except Exception as error:
        accepted.append(f"{error}: {content}")
print("ACCEPTED", json.dumps(accepted))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(contents + wrong),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert ran.returncode == 0, ran.stderr
    accepted = json.loads(ran.stdout.rpartition("ACCEPTED")[2])
    assert [verdict for verdict in accepted[:-1] if verdict is not True] == []
    assert accepted[-1] is not True


def test_overrides_leave_the_original_alone():
    content = written()
    before = json.dumps(content)
    changed = with_overrides(content, {"optimizer.params.torch_adam": True, "zero_optimization.stage": 1})
    assert changed["optimizer"]["params"]["torch_adam"] is True
    assert changed["optimizer"]["params"]["lr"] == 2e-6
    assert changed["zero_optimization"]["stage"] == 1
    assert json.dumps(content) == before
