"""Declarations of settings, and settings read from what the questions set."""

import json
import math

import pytest

from launcher.config.accelerate import Dynamo, Machines
from launcher.config.deepspeed_json import split
from launcher.config.setting import Setting, counted, declarations
from launcher.config.settings import Settings, read_settings
from launcher.config.training import TOPICS, TrainingSettings, read_training, training_declarations

TRAINING = {"pretrained_model_name_or_path": "/models/sdxl", "instance_data_dir": "/pictures"}
ACCELERATE = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "DEEPSPEED",
    "num_machines": 1,
    "num_processes": 2,
    "mixed_precision": "bf16",
    "deepspeed_config": {"zero_stage": 2, "offload_optimizer_device": "cpu"},
}


def declared(kind: type, **facts) -> Setting:
    return Setting(key="x", kind=kind, default=0, doc="", **facts)


def read(accelerate=ACCELERATE, deepspeed=None, training=TRAINING, extra=None):
    return read_settings(accelerate, deepspeed or {}, training, extra)


def with_deepspeed(**answers):
    return {**ACCELERATE, "deepspeed_config": {**ACCELERATE["deepspeed_config"], **answers}}


# one setting


@pytest.mark.parametrize(
    ("kind", "value", "parsed"),
    [
        (int, 3, 3),
        (int, 3.0, 3),
        (int, 2**62 + 1, 2**62 + 1),
        (int, -0.0, 0),
        (float, 3, 3.0),
        (float, 1e-300, 1e-300),
        (bool, False, False),
        (str, "ein Bär 🐻", "ein Bär 🐻"),
        (str, "", ""),
        (tuple, [0.9, 1], (0.9, 1.0)),
        (tuple, (), ()),
    ],
)
def test_a_value_becomes_its_kind(kind, value, parsed):
    result = declared(kind).parse(value)
    assert result == parsed
    assert type(result) is type(parsed)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, True, "must be a number, not True"),
        (int, 1.5, "must be a whole number, not 1.5"),
        (int, "3", "must be a number, not '3'"),
        (int, None, "must be a number, not None"),
        (int, 10**400, "must be a finite number"),
        (int, math.nan, "must be a finite number"),
        (float, False, "must be a number, not False"),
        (float, math.inf, "must be a finite number"),
        (float, -math.inf, "must be a finite number"),
        (float, math.nan, "must be a finite number"),
        (float, 10**400, "must be a finite number"),
        (float, [1.0], "must be a number"),
        (bool, 1, "must be true or false, not 1"),
        (bool, "true", "must be true or false"),
        (bool, None, "must be true or false"),
        (str, 5, "must be text, not 5"),
        (str, None, "must be text, not None"),
        (str, "a\nb", "control characters"),
        (str, "a\x00b", "control characters"),
        (str, "\x1b[31m", "control characters"),
        (str, "\ud800", "half a character"),
        (tuple, 0.9, "must be a list of numbers"),
        (tuple, "09", "must be a list of numbers"),
        (tuple, [0.9, True], "must be a number, not True"),
        (tuple, [0.9, math.nan], "must be a finite number"),
    ],
)
def test_what_is_not_its_kind_is_refused_with_a_reason(kind, value, message):
    with pytest.raises(ValueError, match="must") as refused:
        declared(kind).parse(value)
    assert message in str(refused.value)


@pytest.mark.parametrize("value", [1, 5, 9])
def test_bounds_are_allowed_themselves(value):
    assert declared(int, minimum=1, maximum=9).parse(value) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [(0, "must be at least 1 px, not 0"), (10, "must be at most 9 px, not 10"), (-(2**70), "at least 1 px")],
)
def test_what_lies_outside_the_bounds_is_refused_with_the_unit(value, message):
    with pytest.raises(ValueError, match=message):
        declared(int, minimum=1, maximum=9, unit="px").parse(value)


def test_a_list_of_texts_is_judged_text_by_text():
    texts = Setting("prompts", tuple, (), "Some.", of=str)
    assert texts.parse(["a", "ein Bär 🐻", ""]) == ("a", "ein Bär 🐻", "")
    for wrong, said in (
        ("a", "must be a list of texts, not 'a'"),
        ([1], "must be a list of texts"),
        (["a", "b\nc"], "control characters"),
        (["\ud800"], "half a character"),
    ):
        with pytest.raises(ValueError, match=said):
            texts.parse(wrong)


def test_every_number_of_a_list_has_the_bounds():
    with pytest.raises(ValueError, match="at most 1, not 2"):
        declared(tuple, minimum=0, maximum=1).parse([0.5, 2])


def test_a_bound_beyond_what_a_float_tells_apart_is_exact():
    seed = declared(int, maximum=2**63 - 1)
    assert seed.parse(2**63 - 1) == 2**63 - 1
    with pytest.raises(ValueError, match=f"must be at most {2**63 - 1}, not {2**63}"):
        seed.parse(2**63)


def test_bounds_are_told_as_they_were_typed():
    with pytest.raises(ValueError, match="must be at most 4096 px, not 12345678"):
        declared(int, maximum=4096, unit="px").parse(12345678)
    with pytest.raises(ValueError, match=r"must be at most 1, not 1\.5"):
        declared(float, maximum=1.0).parse(1.5)


def test_a_choice_is_one_of_those_named():
    device = declared(str, choices=("none", "cpu"))
    assert device.parse("cpu") == "cpu"
    with pytest.raises(ValueError, match="must be one of none, cpu, not 'CPU'"):
        device.parse("CPU")


def test_an_empty_answer_is_none_where_one_is_needed():
    with pytest.raises(ValueError, match="must not be empty"):
        declared(str, required=True).parse("")


@pytest.mark.parametrize("topic", [*TOPICS.values()], ids=[*TOPICS])
def test_every_declared_default_is_a_value_and_has_a_meaning(topic):
    found = list(declarations(topic))
    assert found
    for setting in found:
        assert setting.doc
        if not setting.required:
            assert setting.parse(setting.default) == setting.default


# training.json


def test_training_json_round_trips():
    training, problems = read_training(TRAINING | {"learning_rate": 3e-6, "seed": 2**63 - 1, "resolution": 512})
    assert not problems
    again, problems = read_training(json.loads(json.dumps(training.to_json())))
    assert not problems
    assert again == training
    assert again.optimization.learning_rate == 3e-6


def test_training_json_holds_every_declared_setting_once():
    keys = [setting.key for _, setting in training_declarations()]
    assert list(TrainingSettings().to_json()) == keys
    assert len(set(keys)) == len(keys)


def test_every_fault_of_the_training_settings_is_listed():
    values = {"resolution": "big", "seed": -1, "export_dtype": "fp8", "learning_rat": 1e-5}
    _, problems = read_training(values)
    assert {problem.field for problem in problems} == {
        "training.pretrained_model_name_or_path",
        "training.instance_data_dir",
        "training.resolution",
        "training.seed",
        "training.export_dtype",
        "training.learning_rat",
    }


def test_a_file_of_sources_makes_the_folder_needless():
    def problems(**values) -> set[str]:
        return {problem.field for problem in read_training({**TRAINING, "instance_data_dir": "", **values})[1]}

    assert problems() == {"training.instance_data_dir"}
    assert problems(data_backend_config="sources.json") == set()
    assert problems(**{"": "x"}) == {"training.instance_data_dir", "training."}


# all settings


def test_the_defaults_of_accelerates_file_and_ours_are_no_fault():
    settings, problems = read()
    assert problems == []
    assert settings.launch.num_processes == 2
    assert settings.deepspeed.stage == 2
    assert settings.deepspeed.offload_optimizer_device == "cpu"


def test_accelerates_file_owns_stage_offload_accumulation_clipping_and_precision():
    answers = {
        "zero_stage": 3,
        "offload_optimizer_device": "none",
        "offload_param_device": "cpu",
        "gradient_accumulation_steps": 4,
        "gradient_clipping": 0.5,
        "zero3_save_16bit_model": True,
    }
    ours = {
        "zero_optimization.stage": 1,
        "zero_optimization.offload_optimizer.device": "cpu",
        "zero_optimization.offload_param.device": "none",
        "gradient_accumulation_steps": 7,
        "gradient_clipping": 9.0,
        "precision": "no",
        "zero_optimization.stage3_gather_16bit_weights_on_model_save": False,
    }
    settings, problems = read({**with_deepspeed(**answers), "mixed_precision": "fp16"}, ours)
    ds = settings.deepspeed
    assert problems == []
    assert (ds.stage, ds.precision, ds.gradient_accumulation_steps, ds.gradient_clipping) == (3, "fp16", 4, 0.5)
    assert (ds.offload_optimizer_device, ds.offload_param_device) == ("none", "cpu")
    assert ds.stage3_gather_16bit_weights_on_model_save is True


def test_what_accelerate_was_not_asked_means_none():
    content = {**ACCELERATE, "mixed_precision": "no", "deepspeed_config": {"zero_stage": 1}}
    ds = read(content)[0].deepspeed
    assert (ds.offload_optimizer_device, ds.offload_param_device) == ("none", "none")
    assert ds.gradient_clipping == 0.0
    assert ds.precision == "no"


def test_a_json_of_ones_own_keeps_what_accelerate_would_own():
    content = {**ACCELERATE, "mixed_precision": "no", "deepspeed_config": {"deepspeed_config_file": "ds.json"}}
    values, extra = split({"zero_optimization": {"stage": 1}, "bf16": {"enabled": True}, "x": 1})
    settings, problems = read(content, values, extra=extra)
    assert problems == []
    assert (settings.deepspeed.stage, settings.deepspeed.precision) == (1, "bf16")
    assert settings.deepspeed.extra == {"x": 1}


def test_an_unknown_key_is_named():
    _, problems = read(deepspeed={"zero_optimization.stagee": 2}, training={**TRAINING, "learning_rat": 1e-5})
    assert [(problem.field, problem.rule) for problem in problems] == [
        ("deepspeed.zero_optimization.stagee", "unknown"),
        ("training.learning_rat", "unknown"),
    ]


def test_a_faulty_deepspeed_value_is_named_by_its_place_and_takes_its_default():
    settings, problems = read(deepspeed={"optimizer.type": "SGD", "optimizer.params.eps": -1})
    assert [problem.field for problem in problems] == ["deepspeed.optimizer.type", "deepspeed.optimizer.params.eps"]
    assert settings.deepspeed.optimizer_type == "AdamW"


@pytest.mark.parametrize("kind", ["NO", "MULTI_GPU", "MULTI_CPU"])
def test_without_deepspeed_nothing_is_partitioned_or_offloaded(kind):
    settings, problems = read({**ACCELERATE, "distributed_type": kind})
    assert not problems
    assert (settings.launch.deepspeed, settings.deepspeed.stage, settings.deepspeed.offloads) == (False, 0, False)
    assert settings.deepspeed_json()["zero_optimization"] == {"stage": 0}


SLURM = {"zero_stage": 2, "deepspeed_multinode_launcher": "slurm"}


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"compute_environment": "AMAZON_SAGEMAKER"}, "accelerate.environment"),
        ({"distributed_type": "FSDP"}, "accelerate.use_fsdp"),
        ({"distributed_type": "MULTI_NPU"}, "accelerate.machine"),
        ({"num_machines": 2, "num_processes": 2, "deepspeed_config": SLURM}, "accelerate.ds_launcher"),
        ({"num_machines": 2, "num_processes": 2, "distributed_type": "MULTI_CPU"}, "accelerate.num_machines"),
        ({"dynamo_config": {"dynamo_backend": "NVPRIMS_NVFUSER"}}, "accelerate.dynamo_backend"),
        ({"deepspeed_config": {"zero_stage": 2, "deepspeed_moe_layer_cls_names": "A"}}, "accelerate.use_moe"),
    ],
)
def test_what_is_saved_but_not_launched_is_a_problem_of_the_launch(changed, field):
    problems = read({**ACCELERATE, **changed})[1]
    assert [(problem.field, problem.rule) for problem in problems] == [(field, "launch")]


def test_without_deepspeed_accumulation_and_clipping_are_answers_of_their_own():
    said = {"gradient_accumulation_steps": 4, "gradient_clipping": 0.5, "optimizer.type": "Adagrad"}
    settings, problems = read({**ACCELERATE, "distributed_type": "NO", "num_processes": 1}, said)
    assert not problems
    content = settings.deepspeed_json()
    assert (content["gradient_accumulation_steps"], content["gradient_clipping"]) == (4, 0.5)
    assert content["optimizer"]["type"] == "Adagrad"
    assert settings.global_batch_size == 4
    assert read({**ACCELERATE, "distributed_type": "NO"})[0].deepspeed.gradient_clipping == 1.0


DYNAMO = {
    "dynamo_backend": "AOT_EAGER",
    "dynamo_mode": "max-autotune",
    "dynamo_use_fullgraph": False,
    "dynamo_use_dynamic": True,
    "dynamo_use_regional_compilation": True,
}


@pytest.mark.parametrize("kind", ["NO", "MULTI_CPU", "DEEPSPEED"])
def test_how_it_is_compiled_goes_from_accelerates_file_into_the_launch_file(kind):
    settings, problems = read({**ACCELERATE, "distributed_type": kind, "dynamo_config": DYNAMO})
    assert not problems
    assert settings.launch.dynamo == Dynamo("AOT_EAGER", "max-autotune", dynamic=True, regional=True)
    assert settings.launch.to_yaml_object()["dynamo_config"] == DYNAMO


def test_what_was_not_customized_is_compiled_as_accelerate_does_it():
    settings, _ = read({**ACCELERATE, "dynamo_config": {"dynamo_backend": "INDUCTOR"}})
    assert settings.launch.dynamo == Dynamo()
    whole = {"dynamo_backend": "INDUCTOR", "dynamo_use_fullgraph": True}
    assert read({**ACCELERATE, "dynamo_config": whole})[0].launch.dynamo == Dynamo(fullgraph=True)


@pytest.mark.parametrize("said", [{}, {"dynamo_config": {}}, {"dynamo_config": {"dynamo_backend": "NO"}}], ids=str)
def test_without_a_backend_nothing_is_compiled(said):
    settings, problems = read({**ACCELERATE, **said})
    assert not problems
    assert settings.launch.dynamo is None
    assert "dynamo_config" not in settings.launch.to_yaml_object()


def test_no_processes_are_refused():
    problems = read({**ACCELERATE, "num_processes": 0})[1]
    assert [problem.field for problem in problems] == ["accelerate.num_processes"]


# what a run trains with when nothing was said


def test_no_optimizer_given_is_adamw_at_the_learning_rate():
    settings, _ = read(training={**TRAINING, "learning_rate": 3e-6})
    assert settings.deepspeed_json()["optimizer"] == {
        "type": "AdamW",
        "params": {"lr": 3e-6, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01},
    }


def test_no_scheduler_given_is_warmup_to_the_learning_rate():
    settings, _ = read(training={**TRAINING, "learning_rate": 3e-6, "lr_warmup_steps": 1})
    assert settings.deepspeed_json()["scheduler"] == {
        "type": "WarmupLR",
        "params": {"warmup_min_lr": 0.0, "warmup_max_lr": 3e-6, "warmup_num_steps": 1, "warmup_type": "log"},
    }


def test_a_warmup_of_no_steps_is_refused_since_deepspeed_refuses_it():
    assert Settings().deepspeed_json()["scheduler"]["params"]["warmup_num_steps"] >= 1
    problems = read(training={**TRAINING, "lr_warmup_steps": 0})[1]
    assert [(problem.field, problem.message) for problem in problems] == [
        ("training.lr_warmup_steps", "must be at least 1 step, not 0")
    ]


def test_the_global_batch_counts_accumulation_and_processes():
    settings, _ = read(with_deepspeed(gradient_accumulation_steps=3), training={**TRAINING, "train_batch_size": 5})
    assert settings.global_batch_size == 5 * 3 * 2
    content = settings.deepspeed_json()
    assert content["train_micro_batch_size_per_gpu"] == 5
    assert content["gradient_accumulation_steps"] == 3


@pytest.mark.parametrize(
    ("number", "unit", "told"),
    [
        ("1", "micro-batches", "1 micro-batch"),
        ("1", "pictures", "1 picture"),
        ("1", "bytes", "1 byte"),
        ("1", "px", "1 px"),
        ("2", "steps", "2 steps"),
        ("1", "", "1"),
    ],
)
def test_one_of_a_unit_is_told_in_the_singular(number, unit, told):
    assert counted(number, unit) == told


STANDARD = {"deepspeed_config": {"zero_stage": 2, "deepspeed_multinode_launcher": "standard"}}
OF_TWO = {
    "num_machines": 2,
    "num_processes": 4,
    "machine_rank": 1,
    "main_process_ip": "10.0.0.1",
    "main_process_port": 29511,
    "same_network": False,
    "rdzv_backend": "c10d",
}


def test_several_machines_are_launched_as_the_file_says():
    settings, problems = read({**ACCELERATE, **STANDARD, **OF_TWO})
    assert problems == []
    assert settings.launch.machines == Machines(2, 1, "10.0.0.1", 29511, same_network=False, rdzv_backend="c10d")
    assert (settings.launch.processes_here, settings.global_batch_size) == (2, 4)
    launched = settings.launch.to_yaml_object()
    assert launched.items() >= OF_TWO.items()
    assert launched["deepspeed_config"]["deepspeed_multinode_launcher"] == "standard"


def test_each_machine_trains_with_equally_many_processes():
    (problem,) = read({**ACCELERATE, **STANDARD, **OF_TWO, "num_processes": 3})[1]
    assert problem.field == "accelerate.num_processes"
    assert problem.message.startswith("must be a multiple of the 2 machines")


def test_pdsh_starts_them_from_the_first_one():
    inline = {"zero_stage": 2, "deepspeed_hostfile": "/hosts", "deepspeed_exclusion_filter": "three"}
    content = {**ACCELERATE, **OF_TWO, "deepspeed_config": {**inline, "deepspeed_multinode_launcher": "pdsh"}}
    settings, problems = read({**content, "machine_rank": 0})
    assert problems == []
    assert settings.launch.machines.over_ssh
    assert settings.launch.to_yaml_object()["deepspeed_config"] == {
        "deepspeed_config_file": "deepspeed.json",
        "zero3_init_flag": False,
        "deepspeed_multinode_launcher": "pdsh",
        "deepspeed_hostfile": "/hosts",
        "deepspeed_exclusion_filter": "three",
    }
    (problem,) = read(content)[1]
    assert (problem.field, problem.message.startswith("pdsh starts all machines")) == ("accelerate.machine_rank", True)
