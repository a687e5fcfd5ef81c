"""Answers files: read, judged, exported, and the same run again."""

import json
import math
import struct
from pathlib import Path

import pytest

from launcher.config.setting import Level
from launcher.errors import InvalidInputError
from launcher.plan import make_plan
from simpletuner_tui.answers import SCHEMA, Answers, Judgement, judge_answers, read_answers, write_answers
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question
from simpletuner_tui.questions.resolving import resolve

PROBES = {"deepspeed": True}
MODEL, PICTURES = "training.pretrained_model_name_or_path", "training.instance_data_dir"
LEAST = {MODEL: "./model", PICTURES: "pictures", "accelerate.use_deepspeed": True}
OFFLOADED = {
    **LEAST,
    "accelerate.offload_optimizer": "cpu",
    "accelerate.gas": 4,
    "accelerate.use_clip": True,
    "accelerate.mixed_precision": "bf16",
    "training.learning_rate": 3e-6,
    "training.validation_prompt": "ein Bär — “grün” 🐻",
    "deepspeed.optimizer.params.betas": [0.9, 0.95],
}


def document(answers, schema=SCHEMA, **rest) -> bytes:
    return json.dumps({"schema": schema, **rest, "answers": answers}).encode()


def judge(answers: Answers, *, strict: bool = False) -> Judgement:
    resolved = resolve(REGISTRY, answers.values, PROBES)
    return judge_answers(answers.values, resolved, answers.base, REGISTRY, strict=strict)


def judged(values, base: Path) -> Judgement:
    return judge(Answers(values, base))


def exported(answers: Answers, folder: Path) -> Answers:
    """Written into another folder and read from there."""
    content = write_answers(resolve(REGISTRY, answers.values, PROBES), answers.base, folder)
    return read_answers(content, folder, "answers.json")


def faults(judgement: Judgement) -> dict[str, str]:
    return {problem.field: problem.message for problem in judgement.problems if problem.level is Level.ERROR}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder with a model that is all header, pictures that are all name, and nothing else."""
    unet = tmp_path / "model/unet"
    unet.mkdir(parents=True)
    (unet / "config.json").write_text(json.dumps({"block_out_channels": [32, 64]}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).encode()
    (unet / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/1.png").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


# reading


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x.json is not a JSON file"),
        (b'{"schema": 1,', "x.json is not a JSON file"),
        (b"\xff\xfe\x00", "x.json is not a JSON file"),
        (b"[" * 100_000, "x.json is not a JSON file"),
        (b'{"schema": ' + b"9" * 5000 + b', "answers": {}}', "x.json is not a JSON file"),
        (b"[]", "x.json is not a file of answers"),
        (b"null", "x.json is not a file of answers"),
        (b"{}", "x.json is not a file of answers"),
        (b'{"schema": 1, "answers": []}', "x.json is not a file of answers"),
        (b'{"answers": {}}', "schema must be a whole number from 1 to 1, not None"),
        (document({}, schema=0), "schema must be a whole number from 1 to 1, not 0"),
        (document({}, schema=-1), "schema must be a whole number from 1 to 1, not -1"),
        (document({}, schema=True), "schema must be a whole number from 1 to 1, not True"),
        (document({}, schema="1"), "schema must be a whole number from 1 to 1, not '1'"),
        (document({}, schema=1.0), "schema must be a whole number from 1 to 1, not 1.0"),
        (b'{"schema": 1, "answers": {"a": 1, "b": 1, "a": 2}}', "a stands there twice"),
    ],
)
def test_what_is_no_file_of_answers_is_refused(content, message, tmp_path):
    with pytest.raises(InvalidInputError, match=message) as refused:
        read_answers(content, tmp_path, "x.json")
    assert "x.json" in str(refused.value)


def test_a_newer_file_names_the_version_that_made_it(tmp_path):
    with pytest.raises(InvalidInputError, match=r"schema 2.*newer simpletuner-tui \(9\.1\.0\); update"):
        read_answers(document({}, schema=2, tool="9.1.0"), tmp_path, "x.json")
    with pytest.raises(InvalidInputError, match="newer simpletuner-tui; update"):
        read_answers(document({}, schema=2, tool=["?"]), tmp_path, "x.json")


def test_a_file_is_read_with_what_it_does_not_need(tmp_path):
    content = b"\xef\xbb\xbf" + document({"training.seed": 1}, tool="0.0.1", remark="mine")
    assert read_answers(content, tmp_path, "x.json") == Answers({"training.seed": 1}, tmp_path)


# judging


def test_the_least_a_run_needs_is_enough(home):
    judgement = judged(LEAST, home)
    assert faults(judgement) == {}
    assert judgement.notes == ()
    assert judgement.settings.training.model.pretrained_model_name_or_path == str(home / "model")
    judgement.raise_errors()


def test_unknown_ids_are_named_all_at_once_with_the_nearest_ones(home):
    found = faults(judged({**LEAST, "training.sed": 1, "accelerate.stage": 2, "zero_stage": 2, "qqqq": 1}, home))
    assert set(found) == {"training.sed", "accelerate.stage", "zero_stage", "qqqq"}
    assert "did you mean training.seed" in found["training.sed"]
    assert "accelerate.zero_stage" in found["zero_stage"]
    assert found["qqqq"] == "no question has this id"


def test_only_what_can_be_answered_is_proposed(home):
    found = faults(judged({**LEAST, "accelerate.ds_missing": 1, "accelerate.stop_ds_missing": 1}, home))
    assert "stop_ds_missing" not in found["accelerate.ds_missing"]
    assert "no question has this id" in found["accelerate.stop_ds_missing"]


def test_every_fault_is_told_at_once(home):
    values = {
        PICTURES: 7,
        "accelerate.use_deepspeed": True,
        "accelerate.gas": 0,
        "training.resolution": 8,
        "training.seed": "42",
        "training.export_dtype": "fp8",
        "training.gradient_checkpointing": "yes",
        "deepspeed.eps": -1,
        "deepspeed.optimizer.params.eps": -1,
    }
    judgement = judged(values, home)
    assert set(faults(judgement)) == {*values, MODEL} - {"accelerate.use_deepspeed"}
    with pytest.raises(InvalidInputError) as refused:
        judgement.raise_errors()
    lines = str(refused.value).splitlines()
    assert len(lines) == len(faults(judgement))
    assert f"{MODEL}: has no answer and no default" in lines
    assert "accelerate.gas: must be at least 1" in lines


def test_a_stop_is_a_fault(home):
    resolved = resolve(REGISTRY, LEAST, {"deepspeed": False})
    judgement = judge_answers(LEAST, resolved, home, REGISTRY)
    assert "DeepSpeed is not installed" in faults(judgement)["accelerate.use_deepspeed"]


def test_strict_wants_every_answer_that_is_asked(home):
    judgement = judge(Answers(LEAST, home), strict=True)
    asked = {question.id for question in resolve(REGISTRY, LEAST, PROBES).asked}
    assert set(faults(judgement)) == asked - set(LEAST)
    assert faults(judgement)["training.resolution"] == "is left to its default, 1024"
    assert faults(judge(exported(Answers(LEAST, home), home), strict=True)) == {}


def test_answers_that_are_not_asked_are_noted_and_not_judged(home):
    judgement = judged({**LEAST, "accelerate.clip": "nonsense", "accelerate.ds_json": "x.json"}, home)
    assert faults(judgement) == {}
    assert judgement.notes == (
        "accelerate.clip is not asked with these answers and is ignored",
        "accelerate.ds_json is not asked with these answers and is ignored",
    )


def test_what_breaks_a_rule_is_named_by_the_question_to_change(home):
    (home / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 7, "sub_group_size": "few"}}))
    opened = {**LEAST, "accelerate.ds_use_json": True, "accelerate.ds_json": "ds.json"}
    problems = judged(opened, home).problems
    assert {problem.field for problem in problems} == {"accelerate.ds_json"}
    named = {problem.message.split(":")[0] for problem in problems}
    assert named == {"zero_optimization.stage", "zero_optimization.sub_group_size"}
    known = {question.id for question in REGISTRY}
    warned = {**LEAST, "accelerate.offload_param": "cpu", "training.lr_warmup_steps": 5000}
    assert {problem.field for problem in judged(warned, home).problems} <= known


def test_without_deepspeed_plain_pytorch_is_launched(home):
    judgement = judged({MODEL: "./model", PICTURES: "pictures"}, home)
    assert not faults(judgement)
    assert not judgement.settings.launch.deepspeed


# paths


def test_relative_paths_count_from_the_file(home):
    (home / "sub").mkdir()
    values = {**LEAST, MODEL: "../model", PICTURES: "/data//x/../pictures", "training.cache_dir": "cache"}
    training = judged(values, home / "sub").settings.training
    assert training.model.pretrained_model_name_or_path == str(home / "model")
    assert training.data.instance_data_dir == "/data/pictures"
    assert training.data.cache_dir == str(home / "sub/cache")
    assert training.checkpoints.output_dir == ""


def test_a_file_of_sources_stands_in_for_the_folder(home):
    values = {key: value for key, value in LEAST.items() if key != PICTURES}
    missing = faults(judged(values, home))
    assert set(missing) == {PICTURES}
    judgement = judged({**values, "training.data_backend_config": "sources.json"}, home)
    assert faults(judgement) == {}
    assert judgement.settings.training.sources.data_backend_config == str(home / "sources.json")
    both = judged({**LEAST, "training.data_backend_config": "sources.json"}, home)
    assert f"{PICTURES} is not asked with these answers and is ignored" in both.notes
    assert both.settings.training.data.instance_data_dir == ""


def test_a_tilde_is_the_home_folder(home, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    training = judged({**LEAST, MODEL: "~/m", PICTURES: "./~odd"}, home).settings.training
    assert training.model.pretrained_model_name_or_path == "/home/me/m"
    assert training.data.instance_data_dir == str(home / "~odd")
    message = faults(judged({**LEAST, PICTURES: "~nobody-of-this-name/x"}, home))[PICTURES]
    assert "home folder that does not exist" in message


def test_a_hub_id_stays_one_unless_such_a_folder_is_there(home):
    values = {**LEAST, MODEL: "stabilityai/sdxl"}
    assert judged(values, home).settings.training.model.pretrained_model_name_or_path == "stabilityai/sdxl"
    assert judged({**LEAST, PICTURES: "a/b"}, home).settings.training.data.instance_data_dir == str(home / "a/b")
    assert exported(Answers(values, home), home / "elsewhere").values[MODEL] == "stabilityai/sdxl"
    (home / "stabilityai/sdxl").mkdir(parents=True)
    local = str(home / "stabilityai/sdxl")
    assert judged(values, home).settings.training.model.pretrained_model_name_or_path == local
    moved = exported(Answers(values, home), home / "elsewhere")
    assert judge(moved).settings.training.model.pretrained_model_name_or_path == local


@pytest.mark.parametrize("folder", ["runs/one", ".", "..", "pictures", "/elsewhere"])
def test_an_export_into_any_folder_means_the_same(home, folder):
    values = {**OFFLOADED, "training.cache_dir": "~/cache", "training.output_dir": "./out/~x"}
    answers = Answers(values, home)
    moved = exported(answers, (home / folder).resolve())
    assert judge(moved).settings == judge(answers).settings
    assert judge(moved).problems == judge(answers).problems
    assert exported(moved, home).values == exported(answers, home).values


def test_an_export_holds_everything_asked_and_nothing_else(home):
    content = json.loads(write_answers(resolve(REGISTRY, {**LEAST, "accelerate.clip": 3}, PROBES), home, home))
    assert content["schema"] == SCHEMA
    assert {"tool", "accelerate", "deepspeed"} <= set(content)
    asked = resolve(REGISTRY, LEAST, PROBES)
    assert list(content["answers"]) == [question.id for question in asked.asked if question.asks]
    assert content["answers"]["training.resolution"] == 1024
    assert content["answers"][PICTURES] == "./pictures"
    assert "accelerate.clip" not in content["answers"]


def test_an_export_holds_no_secret(tmp_path):
    token = Question("x.token", Kind.TEXT, "Token?", "x", secret=True)
    resolved = resolve((token,), {"x.token": "s3cret"})
    assert resolved.values == {"x.token": "s3cret"}
    assert b"s3cret" not in write_answers(resolved, tmp_path, tmp_path)
    assert json.loads(write_answers(resolved, tmp_path, tmp_path))["answers"] == {}


# the same run again


def files(answers: Answers, run_dir: Path) -> dict[str, bytes]:
    judgement = judge(answers)
    judgement.raise_errors()
    made = make_plan(judgement.settings, b"", run_dir).files
    return {name: made[name] for name in ("accelerate.yaml", "deepspeed.json", "training.json")}


@pytest.mark.parametrize("values", [LEAST, OFFLOADED], ids=["least", "offloaded"])
def test_an_export_makes_the_same_files_byte_for_byte(home, values):
    answers = Answers(values, home)
    again = exported(answers, home / "runs/one")
    assert files(again, home / "runs/one") == files(answers, home / "runs/one")
    assert files(exported(again, home / "runs/two"), home / "runs/one") == files(answers, home / "runs/one")


def test_the_files_hold_what_was_answered(home):
    made = files(Answers(OFFLOADED, home), home / "runs/one")
    training, deepspeed = json.loads(made["training.json"]), json.loads(made["deepspeed.json"])
    assert training["learning_rate"] == 3e-6
    assert training["instance_data_dir"] == str(home / "pictures")
    assert training["cache_dir"] == str(home / "runs/cache")
    assert "Bär — “grün” 🐻" in made["training.json"].decode()
    assert deepspeed["gradient_accumulation_steps"] == 4
    assert deepspeed["gradient_clipping"] == 1.0
    assert deepspeed["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert deepspeed["optimizer"]["params"]["betas"] == [0.9, 0.95]
    assert deepspeed["bf16"] == {"enabled": True}


OPENED = {**LEAST, "accelerate.ds_use_json": True, "accelerate.ds_json": "ds.json"}


def test_a_deepspeed_file_is_opened_beside_the_answers_and_keeps_what_nobody_asks(home):
    (home / "sub").mkdir()
    content = {
        "bf16": {"enabled": True},
        "wall_clock_breakdown": True,
        "dotted.key": {"a.b": 1},
        "zero_optimization.stage": 1,
        "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu", "ratio": 0.5}},
    }
    (home / "sub/ds.json").write_text(json.dumps(content))
    answers = Answers({**OPENED, MODEL: "../model"}, home / "sub")
    made = files(answers, home / "runs/one")
    deepspeed = json.loads(made["deepspeed.json"])
    assert deepspeed["zero_optimization"]["stage"] == 3
    assert deepspeed["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert deepspeed["zero_optimization"]["offload_optimizer"]["ratio"] == 0.5
    assert deepspeed["zero_optimization"]["sub_group_size"] == 1_000_000_000  # left out, so DeepSpeed's own
    assert deepspeed["wall_clock_breakdown"] is True
    assert deepspeed["dotted.key"] == {"a.b": 1}
    assert deepspeed["zero_optimization.stage"] == 1
    assert deepspeed["bf16"] == {"enabled": True}
    assert deepspeed["train_micro_batch_size_per_gpu"] == 1
    assert files(exported(answers, home / "runs/one"), home / "runs/one") == made


def test_a_deepspeed_file_is_set_right_as_check_does_it_and_every_change_is_told(home):
    content = {"optimizer": {"type": " adamw ", "params": {"momentum": 0.9}}, "zero_optimization": {"stage": "zero2"}}
    (home / "ds.json").write_text(json.dumps(content))
    judgement = judged(OPENED, home)
    assert not faults(judgement)
    assert judgement.settings.deepspeed_json()["optimizer"]["type"] == "AdamW"
    assert judgement.settings.deepspeed.stage == 2
    told = "\n".join(judgement.notes)
    for field in ("optimizer.type", "optimizer.params.momentum", "zero_optimization.stage"):
        assert f"ds.json: {field}: " in told


def test_what_a_deepspeed_file_says_of_the_run_holds_and_its_source_is_told(home):
    content = {
        "train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 0.5,
        "optimizer": {"type": "AdamW", "params": {"lr": 3e-4}},
        "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 0}},
    }
    (home / "ds.json").write_text(json.dumps(content))
    judgement = judged({**OPENED, "training.learning_rate": 1e-6}, home)
    settings = judgement.settings
    optimization = settings.training.optimization
    assert (optimization.learning_rate, optimization.train_batch_size, optimization.lr_warmup_steps) == (3e-4, 4, 1)
    assert (settings.deepspeed.gradient_accumulation_steps, settings.deepspeed.gradient_clipping) == (2, 0.5)
    assert settings.global_batch_size == 8
    warned = {problem.field: problem.message for problem in judgement.problems}
    assert warned["training.learning_rate"] == "is not used: ds.json says 0.0003"
    assert "training.train_batch_size: 4, from ds.json" in judgement.notes
    written = settings.deepspeed_json()
    assert written["optimizer"]["params"]["lr"] == written["scheduler"]["params"]["warmup_max_lr"] == 3e-4


def test_what_the_builder_set_beyond_the_questions_is_written_exported_and_replayed(home):
    extra = {"zero_optimization": {"offload_optimizer": {"ratio": 1.0}}, "aio": {"block_size": 1048576}, "a.b": [1]}
    answers = Answers({**LEAST, "accelerate.offload_optimizer": "cpu", "deepspeed.extra": extra}, home)
    made = files(answers, home / "runs/one")
    deepspeed = json.loads(made["deepspeed.json"])
    assert deepspeed["zero_optimization"]["offload_optimizer"]["ratio"] == 1.0
    assert deepspeed["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert (deepspeed["aio"], deepspeed["a.b"]) == (extra["aio"], [1])
    assert files(exported(answers, home / "runs/one"), home / "runs/one") == made


def test_what_the_builder_set_holds_over_the_questions_and_counts_in_the_estimate(home):
    stage_1 = {**LEAST, "accelerate.zero_stage": 1}
    extra = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}
    settings = judged({**stage_1, "deepspeed.extra": extra}, home).settings
    assert (settings.deepspeed.stage, settings.deepspeed.offloads) == (1, True)  # accelerate asks from stage 2 on
    assert settings.deepspeed_json()["zero_optimization"]["offload_optimizer"]["device"] == "cpu"


def test_a_rule_that_what_the_builder_set_breaks_names_it(home):
    extra = {"zero_optimization": {"offload_optimizer": {"ratio": 0.5}}}
    found = faults(judged({**LEAST, "deepspeed.extra": extra}, home))
    assert set(found) == {"deepspeed.extra"}
    assert found["deepspeed.extra"].startswith("zero_optimization.offload_optimizer.ratio: part of the optimizer")


@pytest.mark.parametrize(
    ("extra", "message"), [([], "must be an object"), ("{", "must be an object"), ({"a": math.nan}, "too large")]
)
def test_what_is_no_object_is_a_fault_of_the_builders_part(home, extra, message):
    assert message in faults(judged({**LEAST, "deepspeed.extra": extra}, home))["deepspeed.extra"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"{", "ends too early"), (b"[]", "not an object"), (b"\xff", "is not UTF-8")],
)
def test_a_deepspeed_file_that_cannot_be_opened_is_a_fault(home, content, message):
    if content is not None:
        (home / "ds.json").write_bytes(content)
    found = faults(judged({**LEAST, "accelerate.ds_use_json": True, "accelerate.ds_json": "ds.json"}, home))
    assert set(found) == {"accelerate.ds_json"}
    assert message in found["accelerate.ds_json"]


# --set


def test_what_is_typed_replaces_an_answer_and_is_parsed_as_its_kind(home):
    typed = {
        "training.seed": " 7 ",
        "training.learning_rate": "1e-5",
        "training.gradient_checkpointing": "No",
        "accelerate.zero_stage": "3",
        "accelerate.mixed_precision": "bf16",
        "accelerate.num_processes": "2",
        "deepspeed.optimizer.params.betas": "0.8, 0.9",
        "training.validation_prompt": " as it is ",
    }
    answers = Answers({**LEAST, "training.seed": 1}, home).with_typed(typed, home, REGISTRY)
    judgement = judge(answers)
    assert faults(judgement) == {}
    settings = judgement.settings
    assert settings.training.optimization.seed == 7
    assert settings.training.optimization.learning_rate == 1e-5
    assert settings.training.optimization.gradient_checkpointing is False
    assert settings.training.validation.validation_prompt == " as it is "
    assert type(settings.training.validation.validation_prompt) is str
    assert settings.deepspeed.stage == 3
    assert settings.deepspeed.precision == "bf16"
    assert settings.deepspeed.betas == (0.8, 0.9)
    assert settings.launch.num_processes == 2
    assert exported(answers, home).values["training.seed"] == 7


def test_what_is_typed_is_judged_with_everything_else(home):
    answers = Answers(LEAST, home).with_typed({"training.seed": "x", "accelerate.zero_stage": "4"}, home, REGISTRY)
    assert faults(judge(answers)) == {
        "training.seed": "type a number, such as 8 or 1e-5",
        "accelerate.zero_stage": "type one of 0, 1, 2, 3",
    }


def test_typed_paths_count_from_where_they_are_typed(home):
    (home / "sub").mkdir()
    answers = Answers(LEAST, home).with_typed({PICTURES: "pictures", MODEL: "a/b"}, home / "sub", REGISTRY)
    training = judge(answers).settings.training
    assert training.data.instance_data_dir == str(home / "sub/pictures")
    assert training.model.pretrained_model_name_or_path == "a/b"


@pytest.mark.parametrize("text", ["x" * 300 + "/y", "x" * 5000, "x/" * 2500, "\0", "\udcff", "a\nb"])
def test_an_impossible_path_is_a_fault_wherever_it_comes_from(home, text):
    for name in (MODEL, PICTURES):
        assert set(faults(judged({**LEAST, name: text}, home))) == {name}
        assert set(faults(judge(Answers(LEAST, home).with_typed({name: text}, home, REGISTRY)))) == {name}


@pytest.mark.parametrize("text", ["\ud800", "\0", "a\nb", "\x7f"])
def test_text_that_no_file_can_hold_is_a_fault(home, text):
    assert set(faults(judged({**LEAST, "training.validation_prompt": text}, home))) == {"training.validation_prompt"}


def test_an_unknown_id_is_refused_when_typed():
    with pytest.raises(InvalidInputError, match=r"training\.sed: no question has this id; did you mean training\.seed"):
        Answers().with_typed({"training.sed": "1"}, Path.cwd(), REGISTRY)
