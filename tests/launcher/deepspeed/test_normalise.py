"""What normalising changes, why, and what it leaves alone."""

import json

import pytest

from launcher.config.setting import Level
from launcher.deepspeed.installed import TESTED, Installed
from launcher.deepspeed.normalise import Normalised, normalise
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import ABSENT

Z = "zero_optimization"


def normalised(config: dict, **run) -> Normalised:
    before = json.dumps(config)
    done = normalise(config, RunFacts().given(**run), TESTED)
    assert json.dumps(config) == before
    again = normalise(done.config, RunFacts().given(**run), TESTED)
    assert again.config == done.config
    assert again.changes == ()
    assert json.dumps(again.config) == json.dumps(done.config)
    return done


def at(config: dict, path: str):
    for key in path.split("."):
        config = config[key]
    return config


def reason(done: Normalised, path: str) -> str:
    return "; ".join(change.reason for change in done.changes if change.field == path)


def errors(done: Normalised) -> dict[str, str]:
    return {problem.field: problem.rule for problem in done.problems if problem.level is Level.ERROR}


# Optimizers


@pytest.mark.parametrize(
    ("written", "settled", "words"),
    [
        ("AdamW", "AdamW", ""),
        ("adamw", "AdamW", "DeepSpeed's spelling"),
        (" ADAM ", "Adam", "DeepSpeed's spelling"),
        ("adagrad", "Adagrad", "DeepSpeed's spelling"),
        ("lamb", "Lamb", "DeepSpeed's spelling"),
        ("lion", "Lion", "DeepSpeed's spelling"),
        ("muon", "Muon", "DeepSpeed's spelling"),
        ("muadam", "MuAdam", "DeepSpeed's spelling"),
        ("MUADAMW", "MuAdamW", "DeepSpeed's spelling"),
        ("musgd", "MuSGD", "DeepSpeed's spelling"),
        ("OneBitAdam", "AdamW", "OneBitAdam is gone from DeepSpeed 0.19.8"),
        ("onebitlamb", "AdamW", "OneBitLamb is gone from DeepSpeed 0.19.8"),
        ("zerooneadam", "AdamW", "ZeroOneAdam is gone from DeepSpeed 0.19.8"),
        ("cpuadam", "AdamW", "takes that class itself"),
        ("FusedAdam", "AdamW", "takes that class itself"),
        ("DeepSpeedCPUAdam", "AdamW", "takes that class itself"),
        ("prodigy", "AdamW", "DeepSpeed has no optimizer prodigy"),
        ("SGD", "AdamW", "DeepSpeed has no optimizer SGD"),
    ],
)
def test_an_optimizer_gets_a_name_deepspeed_has(written, settled, words):
    done = normalised({"optimizer": {"type": written, "params": {"lr": 1e-5}}})
    assert done.config["optimizer"]["type"] == settled
    assert words in reason(done, "optimizer.type")
    assert bool(words) == (settled != written)


def test_a_name_the_installed_deepspeed_still_has_stays():
    older = Installed("0.19.6", (*TESTED.optimizers, "onebitadam"), TESTED.zero_supported, TESTED.schedulers, ())
    done = normalise({"optimizer": {"type": "onebitadam"}}, RunFacts(), older)
    assert done.config["optimizer"]["type"] == "OneBitAdam"


@pytest.mark.parametrize("written", ["", "  "])
def test_a_blank_name_is_left_alone_and_refused(written):
    done = normalised({"optimizer": {"type": written}})
    assert done.config["optimizer"]["type"] == written
    assert errors(done)["optimizer.type"] == "optimizer-blank"


@pytest.mark.parametrize(
    "written",
    [{}, {"optimizer": None}, {"optimizer": {}}, {"optimizer": {"type": None}}, {"optimizer": {"params": {}}}],
)
def test_no_optimizer_is_adamw_at_the_runs_learning_rate(written):
    done = normalised(written, learning_rate=3e-6)
    assert done.config["optimizer"] == {"type": "AdamW", "params": {"lr": 3e-6}}
    assert done.sources["optimizer.params.lr"] == "the run"


@pytest.mark.parametrize("written", ["lion", {"name": "lion"}, {"name": "Lion", "type": "Lion"}])
def test_a_bare_name_and_its_alias_are_understood(written):
    assert normalised({"optimizer": written}).config["optimizer"]["type"] == "Lion"


def test_two_names_that_differ_are_refused():
    done = normalised({"optimizer": {"type": "AdamW", "name": "Lion"}})
    assert done.config["optimizer"]["name"] == "Lion"
    assert errors(done)["optimizer.name"] == "said-twice"


CPU = {Z: {"stage": 2, "offload_optimizer": {"device": "cpu"}}}


@pytest.mark.parametrize(
    ("optimizer", "zero", "dropped"),
    [
        ({"type": "Lion", "params": {"eps": 1e-8, "betas": [0.9, 0.99]}}, CPU, {"eps"}),
        ({"type": "Adagrad", "params": {"betas": [0.9, 0.99], "eps": 1e-8}}, CPU, {"betas"}),
        (
            {"type": "AdamW", "params": {"fused": True, "amsgrad": False, "bias_correction": True}},
            CPU,
            {"fused", "amsgrad"},
        ),
        (
            {"type": "AdamW", "params": {"torch_adam": True, "fused": True, "bias_correction": True}},
            {},
            {"bias_correction"},
        ),
        (
            {"type": "OneBitAdam", "params": {"freeze_step": 400, "cuda_aware": False, "comm_backend_name": "nccl"}},
            {},
            {"freeze_step", "cuda_aware", "comm_backend_name"},
        ),
    ],
)
def test_parameters_the_class_does_not_take_are_dropped_by_name(optimizer, zero, dropped):
    done = normalised({"optimizer": optimizer, **zero})
    assert {change.field for change in done.changes if change.after is ABSENT} == {
        f"optimizer.params.{k}" for k in dropped
    }
    assert dropped.isdisjoint(done.config["optimizer"]["params"])
    assert errors(done) == {}


@pytest.mark.parametrize("norm", [0.5, "0.5"])
@pytest.mark.parametrize(("there", "clipping"), [({}, 0.5), ({"gradient_clipping": 2.0}, 2.0)])
def test_clipping_among_the_optimizers_parameters_moves_where_deepspeed_reads_it(there, clipping, norm):
    done = normalised({"optimizer": {"type": "AdamW", "params": {"max_grad_norm": norm}}, **there})
    assert done.config["gradient_clipping"] == clipping
    assert "max_grad_norm" not in done.config["optimizer"]["params"]


# Schedules


def test_no_schedule_is_warmup_to_the_learning_rate():
    done = normalised({"optimizer": {"type": "AdamW", "params": {"lr": 2e-5}}}, lr_warmup_steps=7)
    assert done.config["scheduler"] == {
        "type": "WarmupLR",
        "params": {"warmup_min_lr": 0.0, "warmup_max_lr": 2e-5, "warmup_num_steps": 7},
    }


@pytest.mark.parametrize("name", ["WarmupLR", "WarmupDecayLR", "WarmupCosineLR"])
def test_no_steps_of_warmup_become_one(name):
    done = normalised({"scheduler": {"type": name, "params": {"warmup_num_steps": 0}}}, lr_warmup_steps=5)
    assert done.config["scheduler"]["params"]["warmup_num_steps"] == 1
    assert reason(done, "scheduler.params.warmup_num_steps") == "DeepSpeed refuses 0 steps of warm-up"


@pytest.mark.parametrize(
    ("written", "params"),
    [
        ({"type": "warmuplr"}, {}),
        ({"type": "WarmupLR", "params": None}, {}),
        ("WarmupLR", {}),
        ({"name": "WarmupLR", "params": {"warmup_num_steps": "auto"}}, {"warmup_num_steps": 9}),
        (
            {
                "type": "WarmupLR",
                "params": {"warmup_num_steps": "12", "warmup_max_lr": "auto", "warmup_min_lr": "auto"},
            },
            {"warmup_num_steps": 12, "warmup_max_lr": 3e-6},
        ),
        ({"type": "WarmupDecayLR", "params": {}}, {"total_num_steps": 90, "warmup_max_lr": 3e-6}),
        (
            {"type": "WarmupCosineLR", "params": {"total_num_steps": "auto", "warmup_max_lr": 1}},
            {"total_num_steps": 90},
        ),
    ],
)
def test_a_schedule_gets_what_it_needs_from_the_run_and_loses_what_it_does_not_take(written, params):
    done = normalised({"scheduler": written}, lr_warmup_steps=9, learning_rate=3e-6, max_train_steps=90)
    assert done.config["scheduler"]["params"] == params
    assert errors(done) == {}


def test_onecycle_loses_its_warmup_and_is_refused_for_what_it_lacks():
    done = normalised({"scheduler": {"type": "OneCycle", "params": {"warmup_min_lr": 0, "warmup_num_steps": 0}}})
    assert done.config["scheduler"]["params"] == {}
    (problem,) = (found for found in done.problems if found.rule == "schedule-lacks")
    assert "OneCycle cannot do without cycle_min_lr and cycle_max_lr" in problem.message


# The run


@pytest.mark.parametrize(
    ("written", "micro", "steps"),
    [
        ({}, 3, 5),
        (
            {
                "train_batch_size": "auto",
                "train_micro_batch_size_per_gpu": "auto",
                "gradient_accumulation_steps": "auto",
            },
            3,
            5,
        ),
        ({"train_batch_size": 16, "train_micro_batch_size_per_gpu": 2}, 2, 4),
        ({"train_batch_size": 16, "gradient_accumulation_steps": 4}, 2, 4),
        ({"train_batch_size": 40}, 4, 5),
        ({"train_micro_batch_size_per_gpu": "2", "gradient_accumulation_steps": 2.0}, 2, 2),
    ],
)
def test_the_batch_agrees_with_itself_and_else_with_the_run(written, micro, steps):
    done = normalised(written, train_batch_size=3, gradient_accumulation_steps=5, world_size=2)
    assert done.config["train_micro_batch_size_per_gpu"] == micro
    assert done.config["gradient_accumulation_steps"] == steps
    assert done.config.get("train_batch_size", micro * steps * 2) == micro * steps * 2
    assert errors(done) == {}


def test_a_batch_that_cannot_agree_says_the_numbers():
    done = normalised({"train_batch_size": 8, "train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 2})
    (problem,) = (found for found in done.problems if found.rule == "batch-triangle")
    assert "8 pictures per step are not 2 per GPU x 2 micro-batches x 1 GPU = 4" in problem.message


@pytest.mark.parametrize("written", [{}, {"gradient_clipping": "auto"}, {"gradient_clipping": None}])
def test_clipping_that_is_left_out_is_the_runs_and_not_deepspeeds(written):
    assert normalised(written, gradient_clipping=0.0).config["gradient_clipping"] == 0.0


def test_each_shared_value_has_one_source():
    config = {"gradient_accumulation_steps": 4, "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}}
    done = normalised(config, learning_rate=4e-7, gradient_accumulation_steps=4)
    assert done.config["optimizer"]["params"]["lr"] == 1e-4
    assert dict(done.sources) == {
        "gradient_accumulation_steps": "this file",
        "optimizer.params.lr": "this file",
        "train_micro_batch_size_per_gpu": "the run",
        "gradient_clipping": "the run",
    }
    (problem,) = (found for found in done.problems if found.rule.startswith("not-the-runs"))
    assert problem.field == "optimizer.params.lr"
    assert "0.0001 stands here and 4e-07 in the run (learning_rate): this one holds" in problem.message


def test_what_is_assumed_of_the_run_is_not_held_against_the_file():
    done = normalised({"optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}, "gradient_accumulation_steps": 4})
    assert [found.rule for found in done.problems if found.rule.startswith("not-the-runs")] == []


@pytest.mark.parametrize(
    ("written", "precision", "expected"),
    [
        ({}, "bf16", {"bf16": {"enabled": True}}),
        ({}, "fp16", {"fp16": {"enabled": True}}),
        ({}, "no", {}),
        ({"fp16": {"enabled": True}}, "bf16", {"fp16": {"enabled": True}}),
        ({"bf16": {"enabled": False}}, "bf16", {"bf16": {"enabled": False}}),
        (
            {"bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}},
            "bf16",
            {"bf16": {"enabled": True}, "fp16": {"enabled": False}},
        ),
        ({"bfloat16": {"enabled": True}}, "no", {"bf16": {"enabled": True}}),
    ],
)
def test_the_precision_is_the_files_or_the_runs(written, precision, expected):
    done = normalised(written, mixed_precision=precision)
    assert {key: done.config[key] for key in ("bf16", "fp16", "bfloat16") if key in done.config} == expected


# ZeRO and offload


@pytest.mark.parametrize(
    "written",
    [
        {Z: "zero2"},
        {Z: 2},
        {Z: {"stage": "2"}},
        {Z: {"stage": "ZeRO-2"}},
        {Z: {"stage": "stage_2"}},
        {Z: {"stage": " zero stage 2 "}},
        {"zero_stage": 2},
        {"zero_stage": "2"},
        {"zero_stage": "zero2", Z: {}},
        {"zero_stage": 2, Z: {"stage": 2}},
    ],
)
def test_a_stage_in_words_is_understood(written):
    done = normalised(written)
    assert done.config[Z]["stage"] == 2
    assert "zero_stage" not in done.config


def test_two_stages_that_differ_are_refused():
    done = normalised({"zero_stage": 3, Z: {"stage": 2}})
    assert (done.config["zero_stage"], done.config[Z]["stage"]) == (3, 2)
    assert errors(done) == {"zero_stage": "said-twice"}


@pytest.mark.parametrize(("written", "stage"), [(True, 1), (False, 0)])
def test_the_oldest_way_to_write_a_stage_is_understood(written, stage):
    assert normalised({Z: written}).config[Z] == {"stage": stage}


@pytest.mark.parametrize(
    ("written", "path", "value"),
    [
        ({"cpu_offload": True}, f"{Z}.offload_optimizer.device", "cpu"),
        ({"cpu_offload_param": True}, f"{Z}.offload_param.device", "cpu"),
        ({"stage3_gather_fp16_weights_on_model_save": True}, f"{Z}.stage3_gather_16bit_weights_on_model_save", True),
        ({"prefetch_bucket_size": 7}, f"{Z}.stage3_prefetch_bucket_size", 7),
        ({"offload_optimizer": {"device": "CPU "}}, f"{Z}.offload_optimizer.device", "cpu"),
        ({"reduce_bucket_size": "2e6"}, f"{Z}.reduce_bucket_size", 2_000_000),
        ({"overlap_comm": "True"}, f"{Z}.overlap_comm", True),
        ({"offload_optimizer": {"pin_memory": 0}}, f"{Z}.offload_optimizer.pin_memory", False),
    ],
)
def test_other_spellings_are_understood(written, path, value):
    done = normalised({Z: {"stage": 3, **written}})
    assert at(done.config, path) == value
    assert type(at(done.config, path)) is type(value)
    assert "type" not in errors(done).values()


@pytest.mark.parametrize("size", [5e8, 500_000_000])
def test_a_whole_number_that_deepspeed_takes_stays_as_it_is_written(size):
    done = normalised({Z: {"stage": 2, "reduce_bucket_size": size}})
    assert json.dumps(done.config[Z]["reduce_bucket_size"]) == json.dumps(size)


@pytest.mark.parametrize(
    "written", [{}, {"nvme_path": ""}, {"nvme_path": "none"}, {"nvme_path": None}, {"nvme_path": " "}]
)
def test_both_nvme_paths_come_from_the_run(written):
    zero = {"stage": 3, **{part: {"device": "nvme", **written} for part in ("offload_optimizer", "offload_param")}}
    done = normalised({Z: zero}, offload_param_path="/nvme")
    assert done.config[Z]["offload_optimizer"]["nvme_path"] == "/nvme"
    assert done.config[Z]["offload_param"]["nvme_path"] == "/nvme"
    assert errors(done) == {}
    refused = normalised({Z: zero})
    assert set(errors(refused).values()) <= {"nvme-needs-path", "type"}
    assert errors(refused).keys() == {f"{Z}.offload_optimizer.nvme_path", f"{Z}.offload_param.nvme_path"}


@pytest.mark.parametrize(("world_size", "size"), [(1, 30_408_704), (2, 15_728_640)])
def test_parameter_buffers_fit_the_models_largest_parameter(world_size, size):
    zero = {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "/nvme"}}
    done = normalised({Z: zero}, world_size=world_size)
    assert done.config[Z]["offload_param"]["buffer_size"] == size
    assert size >= 29_491_200 / world_size


def test_buffers_that_are_too_small_are_refused_and_not_changed():
    zero = {"stage": 3, "offload_param": {"device": "nvme", "nvme_path": "/nvme", "buffer_size": 1e7}}
    done = normalised({Z: zero})
    assert done.config[Z]["offload_param"]["buffer_size"] == 1e7
    assert errors(done) == {f"{Z}.offload_param.buffer_size": "nvme-buffers-too-small"}


def test_buckets_left_to_auto_hold_the_largest_parameter():
    zero = {"stage": 2, "reduce_bucket_size": "auto", "allgather_bucket_size": "auto"}
    done = normalised({Z: zero}, largest_parameter=60_000_001)
    assert done.config[Z]["reduce_bucket_size"] == done.config[Z]["allgather_bucket_size"] == 60_000_002
    assert normalised({Z: zero}).config[Z] == {"stage": 2, "reduce_bucket_size": 3e7, "allgather_bucket_size": 5e7}


def test_what_else_is_auto_is_deepspeeds_default():
    written = {
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": "auto"},
        "steps_per_print": "auto",
    }
    done = normalised(written)
    assert done.config[Z] == {"stage": 3}
    assert "steps_per_print" not in done.config
    assert "100000" in reason(done, f"{Z}.stage3_param_persistence_threshold")


# What is kept


def test_unknown_keys_stay_where_they_are_untouched():
    written = {
        "zzz": {"a": [1, {"b": None}], "auto": "auto"},
        Z: {"stage": 2, "made_up": "auto", "stage3_made_up": 1},
        "a.b": "2e6",
        "optimizer": {"type": "AdamW", "params": {"lr": 1e-5}, "extra": "x"},
        "zero_optimization.stage": 3,
        "aio": {"thread_count": "4"},
    }
    done = normalised(written)
    assert {key: done.config[key] for key in written} == written
    assert list(done.config)[: len(written)] == list(written)
    told = {problem.field: problem.level for problem in done.problems if problem.rule == "key"}
    assert told == {
        "zzz": "warning",
        f"{Z}.made_up": "error",
        f"{Z}.stage3_made_up": "error",
        "a.b": "warning",
        "optimizer.extra": "warning",
        "zero_optimization.stage": "warning",
        "aio.thread_count": "warning",
    }


@pytest.mark.parametrize(("idle", "kept"), [({"enabled": False}, False), (False, False), ({"enabled": True}, True)])
def test_removed_features_go_where_they_were_off_and_are_refused_where_on(idle, kept):
    done = normalised({"amp": idle})
    assert ("amp" in done.config) == kept
    assert errors(done) == ({"amp": "removed"} if kept else {})


def test_what_stands_where_an_object_belongs_is_refused_and_left():
    written = {Z: [2], "optimizer": 3, "scheduler": True, "bf16": "yes", "aio": [], "checkpoint": 0}
    done = normalised(written)
    assert {key: done.config[key] for key in written} == written
    assert errors(done) == {**dict.fromkeys(written, "type")}


def test_below_stage_3_no_buffer_is_sized():
    done = normalised({Z: {"stage": 2, "offload_param": {"device": "nvme"}}})
    assert done.config[Z]["offload_param"] == {"device": "nvme"}


@pytest.mark.parametrize(("key", "meant"), [("overlap_com", "overlap_comm"), ("bucket", ""), ("x", "")])
def test_a_key_is_taken_for_another_by_its_own_name(key, meant):
    done = normalised({Z: {"stage": 2, key: 1}})
    (message,) = (problem.message for problem in done.problems if problem.field == f"{Z}.{key}")
    assert ("did you mean" in message) is bool(meant)
    assert meant in message
