"""``deepspeed FILE --check``: what is printed where, and how it ends."""

import io
import json
import sys
from argparse import Namespace

import pytest

from launcher.errors import InvalidInputError
from simpletuner_tui.commands.deepspeed import deepspeed


def checked(capsys, file: object, *run: str, as_json: bool = False) -> tuple[int, str, str]:
    code = deepspeed(Namespace(file=str(file), template=None, check=True, run=list(run), json=as_json))
    captured = capsys.readouterr()
    return int(code), captured.out, captured.err


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ds.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": "zero2"}, "optimizer": "fusedadam", "mine": 1}))
    return path


def test_the_configuration_is_on_stdout_and_what_was_changed_and_is_wrong_on_stderr(capsys, file):
    code, out, err = checked(capsys, file)
    assert code == 0
    config = json.loads(out)
    assert config["zero_optimization"] == {"stage": 2}
    assert config["mine"] == 1
    lines = err.splitlines()
    assert 'changed zero_optimization.stage: "zero2" → 2 (the stage is a number)' in lines
    assert "changed gradient_clipping: nothing → 1.0 (the run's gradient_clipping)" in lines
    assert "warning mine: kept, but DeepSpeed reads no such key [key]" in lines


def test_what_was_printed_is_accepted_unchanged(capsys, file, tmp_path):
    _, out, _ = checked(capsys, file)
    (tmp_path / "again.json").write_text(out)
    code, again, err = checked(capsys, tmp_path / "again.json")
    assert (code, again) == (0, out)
    assert "changed" not in err


def test_json_holds_all_of_it_and_stderr_nothing(capsys, file):
    code, out, err = checked(capsys, file, as_json=True)
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert list(told) == ["config", "changes", "problems"]
    assert {
        "field": "zero_optimization.stage",
        "from": "zero2",
        "to": 2,
        "reason": "the stage is a number",
    } in told["changes"]
    assert {
        "field": "mine",
        "rule": "key",
        "level": "warning",
        "message": "kept, but DeepSpeed reads no such key",
    } in told["problems"]


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_ends_with_2_and_prints_the_configuration_all_the_same(capsys, tmp_path, as_json):
    (tmp_path / "ds.json").write_text('{"fp16": {"enabled": true}, "bf16": {"enabled": true}}')
    code, out, _ = checked(capsys, tmp_path / "ds.json", as_json=as_json)
    assert code == 2
    config = json.loads(out)["config"] if as_json else json.loads(out)
    assert config["fp16"] == {"enabled": True}


def test_what_cannot_be_read_prints_no_configuration(capsys, tmp_path):
    (tmp_path / "ds.json").write_text("{")
    code, out, err = checked(capsys, tmp_path / "ds.json")
    assert (code, out) == (2, "")
    assert err.startswith("error file: ends too early (line 1, column 2)")
    code, out, err = checked(capsys, tmp_path / "ds.json", as_json=True)
    assert (code, err, json.loads(out)["config"]) == (2, "", None)


def test_a_dash_is_stdin(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"zero_optimization": {"stage": 3}}')))
    code, out, _ = checked(capsys, "-")
    assert (code, json.loads(out)["zero_optimization"]) == (0, {"stage": 3})


def test_the_run_is_what_it_is_told_to_be(capsys, file):
    _, out, err = checked(capsys, file, "learning_rate=3e-6", "world_size=2", "gradient_accumulation_steps=4")
    config = json.loads(out)
    assert config["optimizer"]["params"]["lr"] == 3e-6
    assert config["gradient_accumulation_steps"] == 4
    assert "nothing-partitioned" not in err


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("learning_rate", "--run learning_rate: expected FIELD=VALUE"),
        ("learning_rat=1", "--run learning_rat: no such field; did you mean learning_rate?"),
        ("speed=1", "no such field; the fields are world_size,"),
        ("world_size=0", "--run world_size: must be at least 1, not 0"),
        ("world_size=two", "--run world_size: must be a number, not 'two'"),
        ("world_size=1.5", "--run world_size: must be a whole number, not 1.5"),
        ("learning_rate=inf", "--run learning_rate: must be a finite number"),
        ("learning_rate=nan", "--run learning_rate: must be a finite number"),
        ("device=tpu", "--run device: must be one of cuda, cpu"),
    ],
)
def test_a_fact_that_cannot_be_meant_is_named(capsys, file, run, words):
    with pytest.raises(InvalidInputError) as error:
        checked(capsys, file, run)
    assert words in str(error.value)


def test_all_faulty_facts_are_named_at_once(capsys, file):
    with pytest.raises(InvalidInputError) as error:
        checked(capsys, file, "world_size=0", "speed=1", "device=cuda")
    assert len(str(error.value).splitlines()) == 2


def test_the_home_folder_and_a_closed_stdin_are_understood(capsys, file, monkeypatch):
    monkeypatch.setenv("HOME", str(file.parent))
    assert checked(capsys, "~/ds.json")[0] == 0
    monkeypatch.setattr(sys, "stdin", None)
    code, _, err = checked(capsys, "-")
    assert (code, err.count("\n")) == (2, 1)


def test_a_template_is_checked_as_a_file_is(capsys):
    arguments = {"file": None, "check": True, "run": ["offload_param_path=/nvme"], "json": False}
    assert deepspeed(Namespace(template="stage-3-nvme", **arguments)) == 0
    assert json.loads(capsys.readouterr().out)["zero_optimization"]["offload_param"]["nvme_path"] == "/nvme"
    with pytest.raises(InvalidInputError, match="no template is called x; there are stage-2-cpu"):
        deepspeed(Namespace(template="x", **arguments))
    with pytest.raises(InvalidInputError, match="needs a FILE, - for stdin, or --template"):
        deepspeed(Namespace(template=None, **arguments))


def test_output_that_has_ascii_only_gets_no_other_sign(monkeypatch, tmp_path):
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": "zero2"}, "größe": "×"}')
    out, err = (io.TextIOWrapper(io.BytesIO(), "ascii", errors) for errors in ("strict", "backslashreplace"))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        arguments = {"file": str(tmp_path / "ds.json"), "template": None, "check": True, "run": [], "json": False}
        deepspeed(Namespace(**arguments))
        out.flush()
    assert json.loads(out.buffer.getvalue())["größe"] == "×"
    assert b'changed zero_optimization.stage: "zero2" -> 2 (' in err.buffer.getvalue()
