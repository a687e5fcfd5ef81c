"""The catalog against the installed DeepSpeed: nothing unknown, no default that differs, no parameter too many."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import launcher.deepspeed
from launcher.deepspeed.fields import FIELDS, LEFT_OUT, SECTIONS, STRICT
from launcher.deepspeed.fields.optimizer import PARAMETERS as OPTIMIZER_PARAMETERS
from launcher.deepspeed.fields.scheduler import PARAMETERS as SCHEDULER_PARAMETERS
from launcher.deepspeed.fields.scheduler import REQUIRED

# A dictionary that writes down what is asked of it finds the keys that no pydantic model declares.
DISCOVER = """
import inspect, json
import torch
from deepspeed.runtime.config import DeepSpeedConfig
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from deepspeed.runtime.zero.leaf_module_config import DeepSpeedZeroLeafModuleConfig
from deepspeed.runtime.zero.offload_config import DeepSpeedZeroOffloadOptimizerConfig, DeepSpeedZeroOffloadParamConfig
from deepspeed.runtime.precision_config import DeepSpeedBF16Config, DeepSpeedFP16Config
from deepspeed.monitor.config import CometConfig, CSVConfig, TensorBoardConfig, WandbConfig
from deepspeed.comm.config import CommsLoggerConfig
from deepspeed.utils.config import DeepSpeedThroughputTimerConfig
from deepspeed.runtime import lr_schedules
from deepspeed.runtime.engine import DeepSpeedEngine
from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam
from deepspeed.ops.adagrad import DeepSpeedCPUAdagrad
from deepspeed.ops.lion import DeepSpeedCPULion, FusedLion
from deepspeed.ops.lamb import FusedLamb

asked = {}

class Asked(dict):
    def __init__(self, path):
        super().__init__()
        self.path = path
    def __copy__(self):
        return self
    def get(self, key, default=None):
        self.note(key, default)
        return super().get(key, default)
    def __contains__(self, key):
        self.note(key)
        return super().__contains__(key)
    def __getitem__(self, key):
        self.note(key)
        return super().__getitem__(key)
    def keys(self):
        return Keys(self)
    def note(self, key, default=...):
        path = f"{self.path}.{key}" if self.path else key
        if default is not ... or path not in asked:
            asked[path] = None if default is ... else default

class Keys:
    def __init__(self, of):
        self.of = of
    def __contains__(self, key):
        return key in self.of
    def __iter__(self):
        return iter(dict.keys(self.of))

config = Asked("")
dict.__setitem__(config, "train_batch_size", 1)
for section in ("optimizer", "scheduler", "flops_profiler", "aio", "checkpoint", "data_types", "torch_autocast",
                "timers", "activation_checkpointing"):
    dict.__setitem__(config, section, Asked(section))
dict.__setitem__(config["optimizer"], "type", "adamw")
dict.__setitem__(config["optimizer"], "params", Asked("optimizer.params"))
dict.__setitem__(config["scheduler"], "type", "WarmupLR")
dict.__setitem__(config["checkpoint"], "parallel_write", Asked("checkpoint.parallel_write"))
dict.__setitem__(config["timers"], "throughput", {})
DeepSpeedConfig(config)

models = {}
for section, model in {
    "zero_optimization": DeepSpeedZeroConfig,
    "zero_optimization.leaf_module": DeepSpeedZeroLeafModuleConfig,
    "zero_optimization.offload_optimizer": DeepSpeedZeroOffloadOptimizerConfig,
    "zero_optimization.offload_param": DeepSpeedZeroOffloadParamConfig,
    "bf16": DeepSpeedBF16Config, "fp16": DeepSpeedFP16Config,
    "tensorboard": TensorBoardConfig, "wandb": WandbConfig, "csv_monitor": CSVConfig, "comet": CometConfig,
    "comms_logger": CommsLoggerConfig, "timers.throughput": DeepSpeedThroughputTimerConfig,
}.items():
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        simple = default is None or isinstance(default, (str, int, float, list, tuple))
        models[f"{section}.{field.alias or name}"] = default if simple else None

def parameters(cls):
    return {name: None if p.default is p.empty else p.default
            for name, p in inspect.signature(cls.__init__).parameters.items()
            if name not in ("self", "params", "model_params", "optimizer", "last_batch_iteration")}

classes = {
    "adam gpu": FusedAdam, "adam cpu": DeepSpeedCPUAdam, "adam torch": torch.optim.AdamW,
    "adagrad gpu": torch.optim.Adagrad, "adagrad cpu": DeepSpeedCPUAdagrad,
    "lion gpu": FusedLion, "lion cpu": DeepSpeedCPULion, "lamb gpu": FusedLamb,
}
# Muon's class takes groups; what stands for them the engine reads.
muon = {"muon_lr", "adam_lr", *DeepSpeedEngine._MUON_HALF_KEYS, *DeepSpeedEngine._ADAM_HALF_KEYS}
print("DISCOVERED", json.dumps({
    "asked": asked, "models": models,
    "optimizers": {**{name: parameters(cls) for name, cls in classes.items()}, "muon gpu": dict.fromkeys(muon)},
    "schedulers": {name: parameters(getattr(lr_schedules, name)) for name in lr_schedules.VALID_LR_SCHEDULES},
}, default=str))
"""


@pytest.fixture(scope="module")
def discovered() -> dict:
    done = subprocess.run(
        [sys.executable, "-c", DISCOVER],
        env={**os.environ, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "DISCOVERED" in done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("DISCOVERED")[2])


def left_out(path: str) -> bool:
    return any(path == known or path.startswith(f"{known}.") for known in LEFT_OUT)


def test_no_field_of_the_installed_deepspeed_is_unknown(discovered):
    found = discovered["asked"].keys() | discovered["models"].keys()
    sections = SECTIONS | {"tensorboard", "wandb", "csv_monitor", "comet"}
    assert {path for path in found if path not in FIELDS and path not in sections and not left_out(path)} == set()


def test_no_field_is_offered_that_the_installed_deepspeed_does_not_read(discovered):
    found = discovered["asked"].keys() | discovered["models"].keys()
    of_classes = {path for path in FIELDS if path.startswith(("optimizer.params.", "scheduler.params."))}
    assert FIELDS.keys() - found - of_classes == set()


def test_nothing_is_both_offered_and_left_out():
    assert {path for path in FIELDS if left_out(path)} == set()


def test_what_is_left_out_is_still_there_to_leave_out(discovered):
    found = discovered["asked"].keys() | discovered["models"].keys()
    # Read only where others stand, by the engine instead of the configuration, or refused before anything is read.
    elsewhere = {
        "allgather_size",
        "comet.api_key",
        "optimizer.params.max_grad_norm",
        "optimizer.params.per_head_muon",
        "sequence_parallel_size",
        "vocabulary_size",
        "checkpoint.writer",
    }
    gone = {path for path, why in LEFT_OUT.items() if why.startswith("removed")}
    assert LEFT_OUT.keys() - found - elsewhere - gone == set()


def test_defaults_are_deepspeeds_own(discovered):
    def same(path: str, default: object) -> bool:
        ours = FIELDS[path].default
        ours = list(ours) if isinstance(ours, tuple) else ours
        if isinstance(ours, str) and isinstance(default, str):
            return ours.lower() == default.lower()
        return ours == default and isinstance(ours, bool) == isinstance(default, bool)

    theirs = {**discovered["asked"], **discovered["models"]}
    # The batch that was given to make it read anything.
    differing = {
        path: (FIELDS[path].default, default)
        for path, default in theirs.items()
        if path in FIELDS and path != "train_batch_size" and not same(path, default)
    }
    assert differing == {}


def test_strict_sections_are_the_pydantic_ones(discovered):
    assert {path.rpartition(".")[0] for path in discovered["models"]} == STRICT


POPPED = {
    # Taken out by the engine before the class is made, or made of it.
    "adam gpu": {"torch_adam", "fp32_optimizer_states"},
    "adam cpu": {"torch_adam", "adam_w_mode"},
    "adam torch": {"torch_adam", "adam_w_mode", "fp32_optimizer_states"},
    "muon gpu": {"torch_adam", "adam_w_mode", "fp32_optimizer_states"},
}
NOT_TAKEN = {
    # DeepSpeed's own Adams raise at it or are given it; CPUAdagrad ignores it; the engine refuses max_grad_norm.
    "adam gpu": {"amsgrad"},
    "adam cpu": {"amsgrad", "adamw_mode"},
    "adagrad cpu": {"amsgrad"},
    "lamb gpu": {"amsgrad", "max_grad_norm"},
}


def test_optimizers_take_exactly_these_parameters(discovered):
    ours = {" ".join(key): set(names) for key, names in OPTIMIZER_PARAMETERS.items()}
    theirs = {
        name: (set(parameters) | POPPED.get(name, set())) - NOT_TAKEN.get(name, set())
        for name, parameters in discovered["optimizers"].items()
    }
    assert ours == theirs


def test_schedules_take_and_require_exactly_these_parameters(discovered):
    theirs = discovered["schedulers"]
    assert {name: set(names) for name, names in SCHEDULER_PARAMETERS.items()} == {
        name: set(parameters) for name, parameters in theirs.items()
    }
    without = {"warmup_max_lr", "cycle_second_step_size", "cycle_second_stair_count"}  # None is their default
    assert {name: set(REQUIRED.get(name, ())) for name in theirs} == {
        name: {key for key, default in parameters.items() if default is None and key not in without}
        for name, parameters in theirs.items()
    }


@pytest.mark.parametrize("path", FIELDS)
def test_a_field_takes_its_own_default(path):
    default = FIELDS[path].default
    assert FIELDS[path].fault(list(default) if isinstance(default, tuple) else default) is None


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("zero_optimization.stage", 4, "must be one of 0, 1, 2, 3, not 4"),
        ("zero_optimization.stage", True, "must be a number, not True"),
        ("zero_optimization.reduce_bucket_size", 0, "must be at least 1 element, not 0"),
        ("zero_optimization.reduce_bucket_size", 1.5, "must be a whole number, not 1.5"),
        ("zero_optimization.reduce_bucket_size", 10**30, "larger than any number DeepSpeed can hold"),
        ("zero_optimization.offload_optimizer.device", None, "must not be null"),
        ("zero_optimization.offload_optimizer.ratio", 1.5, "must be at most 1, not 1.5"),
        ("optimizer.params.betas", 0.9, "must be a list of numbers, not 0.9"),
        ("optimizer.params.betas", [0.9, "x"], "must be a number, not 'x'"),
        ("bf16.enabled", "yes", "must be true or false, not 'yes'"),
        ("wandb.project", 3, "must be text, not 3"),
        ("comms_logger.prof_ops", ["all_reduce", 3], "must be a list of texts"),
    ],
)
def test_a_fault_is_said_in_words(path, value, words):
    assert words in FIELDS[path].fault(value)


def test_a_choice_may_be_in_any_case_where_deepspeed_takes_it():
    assert FIELDS["checkpoint.tag_validation"].fault("WARN") is None
    assert FIELDS["zero_optimization.offload_optimizer.device"].fault("CPU") is not None


def test_every_field_says_what_it_is():
    for field in FIELDS.values():
        assert field.meaning.endswith(".")
        assert not field.effect or field.effect.endswith(".")


def test_the_basic_view_is_small():
    assert 15 <= sum(field.basic for field in FIELDS.values()) <= 25


def test_what_is_said_about_a_configuration_can_be_shown_by_any_terminal():
    found = []
    for path in Path(launcher.deepspeed.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        # A text that stands alone is for who reads the source.
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in alone]
        found += [text.value for text in texts if isinstance(text.value, str) and not text.value.isascii()]
    assert found == []
