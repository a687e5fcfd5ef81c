"""The configurations people bring: the document's own, SimpleTuner's builder's, DeepSpeed's and axolotl's."""

import json

import pytest

from launcher.config.setting import Level
from launcher.deepspeed.installed import TESTED
from launcher.deepspeed.normalise import Normalised, normalise
from launcher.deepspeed.opening import open_bytes, open_file
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT
from launcher.deepspeed.writing import as_json, into_file
from simpletuner_tui.builder.model import Builder

INSTALLED = TESTED
Z = "zero_optimization"


def checked(content: object, tmp_path, **run) -> Normalised:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    opened = open_bytes(data, tmp_path)
    assert opened.config is not None, opened.problems
    facts = RunFacts().given(**run)
    done, builder = normalise(opened.config, facts, INSTALLED), Builder(opened.config, facts, INSTALLED)
    assert builder.json == as_json(done.config), "the builder saves what --check prints"
    assert set(builder.problems) == set(done.problems)
    return done


def errors(done: Normalised) -> set[str]:
    return {problem.rule for problem in done.problems if problem.level is Level.ERROR}


def warned(done: Normalised) -> set[str]:
    return {problem.rule for problem in done.problems if problem.level is Level.WARNING}


# The document

DOCUMENT = {
    "deepspeed_config": {
        Z: {
            "stage": 2,
            "offload_param": {"device": "cpu", "pin_memory": True},
            "offload_optimizer": {"device": "cpu", "pin_memory": True},
        },
        "gradient_accumulation_steps": 4,
        "gradient_clipping": 1.0,
        "optimizer": {
            "type": "AdamW",
            "params": {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
        },
        "scheduler": {
            "type": "WarmupLR",
            "params": {"warmup_min_lr": 0, "warmup_max_lr": 1e-4, "warmup_num_steps": 500},
        },
        "train_batch_size": 8,
        "train_micro_batch_size_per_gpu": 2,
    }
}


def test_the_documents_first_example_runs_and_its_idle_part_is_told(tmp_path):
    done = checked(DOCUMENT, tmp_path)
    assert errors(done) == set()
    assert warned(done) == {"param-offload-needs-stage-3", "stage-1-moves-less"}
    assert done.config == {**DOCUMENT["deepspeed_config"], "bf16": {"enabled": True}}


def test_the_documents_first_example_does_not_divide_over_two_gpus(tmp_path):
    assert errors(checked(DOCUMENT, tmp_path, world_size=2)) == {"batch-triangle"}


NVME = b"""{
  "deepspeed_config": {
    "zero_optimization": {
      "stage": 3,
      "offload_param": {
        "device": "nvme",
        "nvme_path": "/path/to/nvme/storage",
        "buffer_size": 100000000.0,
        "pin_memory": true
      }
    }
  }
}"""


def test_the_documents_nvme_example_gets_what_it_leaves_out(tmp_path):
    done = checked(NVME, tmp_path)
    assert errors(done) == set()
    assert warned(done) == {"nvme-wears", "nvme-parameters-alone"}
    assert done.config[Z] == {**json.loads(NVME)["deepspeed_config"][Z], "stage3_prefetch_bucket_size": 0}
    assert done.config["optimizer"] == {"type": "AdamW", "params": {"lr": 1e-5}}
    assert done.config["scheduler"]["type"] == "WarmupLR"
    assert done.config["train_micro_batch_size_per_gpu"] == 1


YAML = b"""
compute_environment: LOCAL_MACHINE
debug: false
deepspeed_config:
  gradient_accumulation_steps: 4
  zero3_init_flag: false
  zero_stage: 1
distributed_type: DEEPSPEED
downcast_bf16: 'no'
machine_rank: 0
main_training_function: main
mixed_precision: bf16
num_machines: 1
num_processes: 1
rdzv_backend: static
same_network: true
tpu_env: []
tpu_use_cluster: false
tpu_use_sudo: false
use_cpu: false
"""


def test_the_documents_yaml_is_stage_1_that_saves_nothing_on_one_gpu(tmp_path):
    done = checked(YAML, tmp_path)
    assert errors(done) == set()
    assert warned(done) == {"nothing-partitioned"}
    assert done.config[Z]["stage"] == 1
    assert done.config["gradient_accumulation_steps"] == 4
    assert done.config["bf16"] == {"enabled": True}
    assert warned(checked(YAML, tmp_path, world_size=2)) == set()


# SimpleTuner's builder: what it emits as it stands, and each choice that cannot work


def emitted(stage: int = 2, **changed: object) -> dict:
    config: dict = {
        Z: {
            "stage": stage,
            "overlap_comm": True,
            "contiguous_gradients": True,
            **({"reduce_bucket_size": "auto"} if stage >= 2 else {}),
            **(
                {
                    "stage3_prefetch_bucket_size": "auto",
                    "stage3_param_persistence_threshold": "auto",
                    "stage3_gather_16bit_weights_on_model_save": True,
                }
                if stage == 3
                else {}
            ),
        },
        "bf16": {"enabled": True},
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1,
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "steps_per_print": 2000,
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": 1e-4,
                "betas": [0.9, 0.999],
                "eps": 1e-6,
                "weight_decay": 0.01,
                "torch_adam": False,
                "adam_w_mode": True,
            },
        },
        "scheduler": {
            "type": "WarmupLR",
            "params": {"warmup_min_lr": 0, "warmup_max_lr": 1e-4, "warmup_num_steps": 0},
        },
    }
    for path, value in changed.items():
        *above, key = path.split(".")
        section = config
        for name in above:
            section = section.setdefault(name, {})
        section[key] = value
    return config


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_what_the_builder_proposes_is_mended(stage, tmp_path):
    done = checked(emitted(stage), tmp_path)
    assert errors(done) == set()
    assert done.config["scheduler"]["params"]["warmup_num_steps"] == 1
    assert done.config["train_micro_batch_size_per_gpu"] == 1
    assert "auto" not in json.dumps(done.config)


def test_a_file_that_only_names_another_is_followed(tmp_path):
    (tmp_path / "ds.json").write_text(json.dumps(emitted()))
    named = {"deepspeed_config_file": "ds.json", "zero3_init_flag": True, "zero3_save_16bit_model": False}
    assert checked(named, tmp_path).config == checked(emitted(), tmp_path).config
    opened = open_bytes(json.dumps({**named, "deepspeed_config_file": "gone.json"}).encode(), tmp_path)
    assert "gone.json cannot be read" in opened.problems[0].message


@pytest.mark.parametrize("name", ["OneBitAdam", "OneBitLamb", "ZeroOneAdam", "Prodigy"])
def test_optimizers_that_are_gone_or_never_were_are_replaced(name, tmp_path):
    done = checked(emitted(**{"optimizer.type": name}), tmp_path)
    assert errors(done) == set()
    assert done.config["optimizer"]["type"] == "AdamW"


@pytest.mark.parametrize(
    ("name", "dropped"),
    [("Lion", {"eps", "torch_adam", "adam_w_mode"}), ("Adagrad", {"betas", "torch_adam", "adam_w_mode"})],
)
def test_default_parameters_an_optimizer_does_not_take_are_dropped(name, dropped, tmp_path):
    done = checked(emitted(**{"optimizer.type": name, f"{Z}.offload_optimizer": {"device": "cpu"}}), tmp_path)
    assert errors(done) == set()
    assert {change.field for change in done.changes if change.after is ABSENT and "optimizer" in change.field} == {
        f"optimizer.params.{key}" for key in dropped
    }


@pytest.mark.parametrize(
    ("changed", "rule", "words"),
    [
        ({"scheduler.type": "Polynomial"}, "schedule-unknown", "WarmupDecayLR falls in a line"),
        ({"scheduler.type": "Constant"}, "schedule-unknown", "WarmupLR stays at its rate"),
        ({"scheduler.type": "OneCycle"}, "schedule-lacks", "cycle_min_lr and cycle_max_lr"),
        ({"optimizer.type": "Lamb"}, "lamb-unproven", "zero_allow_untested_optimizer"),
        ({"optimizer.type": "MuAdam"}, "mu-needs-shapes", "package mup"),
        ({"optimizer.type": "MuAdamW"}, "mu-needs-shapes", "package mup"),
        ({"optimizer.type": "MuSGD"}, "mu-needs-shapes", "package mup"),
        ({"scheduler.type": "Cosine"}, "schedule-unknown", "Cosine"),
        ({f"{Z}.stage": 3, f"{Z}.offload_param": {"device": "nvme", "nvme_path": "none"}}, "nvme-needs-path", "folder"),
        (
            {f"{Z}.stage": 3, f"{Z}.offload_optimizer": {"device": "nvme", "nvme_path": "none"}},
            "nvme-needs-path",
            "folder",
        ),
    ],
)
def test_what_cannot_be_mended_is_refused_by_name(changed, rule, words, tmp_path):
    done = checked(emitted(**changed), tmp_path)
    assert errors(done) == {rule}
    assert any(words in problem.message for problem in done.problems if problem.rule == rule)


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({f"{Z}.offload_param": {"device": "cpu", "pin_memory": True}}, "param-offload-needs-stage-3"),
        ({f"{Z}.stage": 1, f"{Z}.offload_param": {"device": "cpu"}}, "param-offload-needs-stage-3"),
        ({f"{Z}.offload_optimizer": {"device": "nvme", "nvme_path": "none"}}, "nvme-needs-stage-3"),
        ({f"{Z}.stage": 1, f"{Z}.offload_optimizer": {"device": "nvme"}}, "nvme-needs-stage-3"),
        ({"zero3_save_16bit_model": True}, "not-at-this-stage"),
        ({f"{Z}.zero_quantized_gradients": True}, "not-at-this-stage"),
        ({f"{Z}.zero_hpz_partition_size": 8}, "not-at-this-stage"),
        ({f"{Z}.zero_quantized_weights": True}, "not-at-this-stage"),
        ({"zero3_init_flag": True}, "key"),
        ({"optimizer.params.adam_w_mode": False}, "adamw-stays-adamw"),
    ],
)
def test_what_does_nothing_is_told(changed, rule, tmp_path):
    done = checked(emitted(**changed), tmp_path)
    assert errors(done) == set()
    assert rule in warned(done)


def test_a_save_in_16_bits_that_is_on_and_off_is_refused_by_name(tmp_path):
    done = checked(emitted(3, zero3_init_flag=True, zero3_save_16bit_model=False), tmp_path)
    assert errors(done) == {"said-twice"}


def test_muon_is_no_fault_and_what_it_takes_is_told(tmp_path):
    done = checked(emitted(**{"optimizer.type": "Muon"}), tmp_path)
    assert errors(done) == set()
    assert {"muon-elsewhere", "muon-and-clipping"} <= warned(done)


def test_fp16_beside_a_run_in_bf16_is_told(tmp_path):
    config = emitted(fp16={"enabled": True})
    del config["bf16"]
    assert "not-the-runs-precision" in warned(checked(config, tmp_path, mixed_precision="bf16"))


def test_a_learning_rate_far_from_the_runs_is_told(tmp_path):
    assert "not-the-runs-learning-rate" in warned(checked(emitted(), tmp_path, learning_rate=4e-7))


def test_the_wizards_stage_2_preset_saves_nothing_and_says_so(tmp_path):
    done = checked(emitted(**{f"{Z}.offload_param": {"device": "cpu"}}), tmp_path)
    assert {"param-offload-needs-stage-3", "nothing-partitioned"} <= warned(done)


@pytest.mark.parametrize(("preset", "stage"), [("zero1", 1), ("zero2", 2), ("zero3", 3)])
def test_bare_memory_presets_are_understood(preset, stage, tmp_path):
    done = checked({"deepspeed_config": preset}, tmp_path)
    assert errors(done) == set()
    assert done.config[Z]["stage"] == stage


# Offload examples and presets as others write them

CPU = {"device": "cpu", "pin_memory": True}
OFFLOAD_EXAMPLES = {
    "stage 2": {
        "train_micro_batch_size_per_gpu": 4,
        "gradient_accumulation_steps": 2,
        "steps_per_print": 10,
        "optimizer": {"type": "Adam", "params": {"lr": 3e-5, "betas": [0.9, 0.95], "weight_decay": 0.0}},
        "fp16": {
            "enabled": True,
            "loss_scale": 0,
            "initial_scale_power": 12,
            "loss_scale_window": 500,
            "hysteresis": 2,
            "min_loss_scale": 1,
        },
        Z: {
            "stage": 2,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "reduce_bucket_size": 2e8,
            "allgather_bucket_size": 2e8,
            "reduce_scatter": True,
            "offload_optimizer": CPU,
        },
        "wall_clock_breakdown": False,
    },
    "stage 3": {
        "train_batch_size": 16,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": True},
        Z: {
            "stage": 3,
            "sub_group_size": 1e9,
            "stage3_max_live_parameters": 1e9,
            "stage3_max_reuse_distance": 1e9,
            "stage3_prefetch_bucket_size": 1e7,
            "stage3_param_persistence_threshold": 1e5,
            "offload_param": {**CPU, "buffer_count": 5},
            "offload_optimizer": {**CPU, "buffer_count": 4, "fast_init": False},
        },
        "activation_checkpointing": {"partition_activations": False, "cpu_checkpointing": False},
    },
    "nvme": {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": True},
        Z: {
            "stage": 3,
            "offload_param": {"device": "nvme", "nvme_path": "/nvme", "buffer_size": 1e8, "max_in_cpu": 1e9},
            "offload_optimizer": {
                "device": "nvme",
                "nvme_path": "/nvme",
                "pipeline_read": True,
                "pipeline_write": True,
            },
        },
        "aio": {"block_size": 262144, "queue_depth": 32, "single_submit": False, "overlap_events": True},
    },
}


def trainers_preset(stage: int, **zero: object) -> dict:
    """As training frameworks ship them: everything that the run knows is auto."""
    return {
        Z: {"stage": stage, "overlap_comm": True, "contiguous_gradients": True, **zero},
        "bf16": {"enabled": "auto"},
        "fp16": {
            "enabled": "auto",
            "auto_cast": False,
            "loss_scale": 0,
            "initial_scale_power": 32,
            "loss_scale_window": 1000,
            "hysteresis": 2,
            "min_loss_scale": 1,
        },
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "wall_clock_breakdown": False,
    }


STAGE_3 = {
    "sub_group_size": 0,
    "reduce_bucket_size": "auto",
    "stage3_prefetch_bucket_size": "auto",
    "stage3_param_persistence_threshold": "auto",
    "stage3_max_live_parameters": 0,
    "stage3_max_reuse_distance": 0,
    "stage3_gather_16bit_weights_on_model_save": True,
}
PRESETS = {
    "zero1": trainers_preset(1),
    "zero2": trainers_preset(2, offload_optimizer={"device": "cpu"}),
    "zero3": trainers_preset(3, **STAGE_3),
    "zero3, all on the CPU": trainers_preset(3, **STAGE_3, offload_optimizer=CPU, offload_param=CPU),
}


def kept(before: object, after: object) -> bool:
    """Whether everything written, but for auto, is still there as it was."""
    if before == "auto":
        return after != "auto"
    if isinstance(before, dict):
        return all(kept(value, after.get(key)) for key, value in before.items())
    return before == after


@pytest.mark.parametrize("name", [*OFFLOAD_EXAMPLES, *PRESETS])
def test_examples_of_others_open_and_save_without_loss(name, tmp_path):
    config = {**OFFLOAD_EXAMPLES, **PRESETS}[name]
    done = checked(config, tmp_path)
    assert errors(done) == set()
    assert kept(config, done.config)
    saved = json.dumps(done.config, indent=2).encode()
    again = checked(saved, tmp_path)
    assert again.changes == ()
    assert json.dumps(again.config) == json.dumps(done.config)


def order(config: dict, within: dict) -> list:
    """The keys that both configurations have, as they follow each other in the second."""
    return [
        (key, order(config[key], value)) if isinstance(value, dict) and isinstance(config[key], dict) else key
        for key, value in within.items()
        if key in config
    ]


@pytest.mark.parametrize("name", [*OFFLOAD_EXAMPLES, *PRESETS])
@pytest.mark.parametrize("place", ["a file of its own", "a config.json"])
def test_examples_of_others_go_through_the_builder_with_every_unknown_key_in_its_place(name, place, tmp_path):
    known = {**OFFLOAD_EXAMPLES, **PRESETS}[name]
    items = list(known.items())
    config = {"mine": {"x": [1, None]}, **dict(items[:2]), "a.b": "größe", **dict(items[2:])}
    config[Z] = {"house_rule": 1, **known[Z], "last": {}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config if place.startswith("a file") else {"deepspeed_config": config, "seed": 1}))
    opened = open_file(path)
    builder = Builder(opened.config, RunFacts(), INSTALLED)
    home, content = into_file(path, builder.config)
    home.write_bytes(content)
    saved = open_file(path).config
    assert json.dumps(saved) == json.dumps(normalise(config, RunFacts(), INSTALLED).config)
    assert kept(config, saved)
    assert order(config, saved) == order(saved, config), "only auto and what the run fills in come and go"
