"""Files of a run directory: whole or not at all, read while they are written."""

import json
import math
from pathlib import Path

import pytest

from launcher.errors import CannotRunHereError, InvalidInputError
from launcher.runs import index
from launcher.runs.directory import RunDirectory, create, read_json, write_atomic
from launcher.runs.events import EventLog, read_events


def make_run(path: Path) -> RunDirectory:
    return create(path, {"plan.json": b"{}"})


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "state.json"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_directory_appears_whole_or_not_at_all(tmp_path):
    files = {"answers.json": b"{}", "x" * 300: b"{}"}
    with pytest.raises(CannotRunHereError, match="File name too long; choose another with --run-dir"):
        create(tmp_path / "new", files)
    assert list(tmp_path.iterdir()) == []
    old = make_run(tmp_path / "old")
    with pytest.raises(CannotRunHereError):
        create(old.path, files)
    assert old.plan_json.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff"])
def test_a_file_that_is_no_object_is_nothing(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    assert read_json(tmp_path / "x.json") is None
    assert read_json(tmp_path / "missing.json") is None


def test_events_are_read_on_from_where_reading_ended(tmp_path):
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.emit("step", step=1)
    events, offset = read_events(path)
    assert [event["step"] for event in events] == [1]
    assert read_events(path, offset) == ([], offset)
    log.emit("step", step=2)
    assert [event["step"] for event in read_events(path, offset)[0]] == [2]


def test_half_a_line_is_left_for_the_next_reading(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "a"}\n{"event": ')
    events, offset = read_events(path)
    assert [event["event"] for event in events] == ["a"]
    with path.open("ab") as file:
        file.write(b'"b"}\n')
    assert [event["event"] for event in read_events(path, offset)[0]] == ["b"]


def test_lines_that_are_no_events_are_passed_over(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'nonsense\n[1]\n{"no": "event"}\n\xff\xfe\n{"event": "a"}\n')
    assert [event["event"] for event in read_events(path)[0]] == ["a"]


def test_numbers_that_json_does_not_know_are_text(tmp_path):
    path = tmp_path / "events.jsonl"
    EventLog(path).emit("step", loss=math.nan, nested={"x": [math.inf]})
    (event,) = (json.loads(line) for line in path.read_text().splitlines())
    assert (event["loss"], event["nested"]) == ("nan", {"x": ["inf"]})


def test_training_settings_that_are_faulty_are_named(tmp_path):
    run = create(tmp_path / "run", {"training.json": b'{"resolution": "large", "speed": 1}'})
    with pytest.raises(InvalidInputError, match=r"training\.resolution.*training\.speed"):
        run.training()


def test_a_run_is_found_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run = make_run(tmp_path / "runs/cats-1")
    index.register(run)
    assert index.find("cats-1") == run == index.find(str(run.path))
    with pytest.raises(InvalidInputError, match="did you mean cats-1"):
        index.find("cats-2")


def test_two_runs_of_one_name_want_a_path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for folder in ("a", "b"):
        index.register(make_run(tmp_path / folder / "cats"))
    with pytest.raises(InvalidInputError, match="several runs are named cats"):
        index.find("cats")


def test_runs_that_were_removed_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    run = make_run(tmp_path / "cats")
    index.register(run)
    index.register(run)
    assert index.known_runs() == [run]
    run.plan_json.unlink()
    assert index.known_runs() == []


def test_a_damaged_index_costs_names_only(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    index.index_path().parent.mkdir(parents=True)
    index.index_path().write_text("{")
    assert index.known_runs() == []
    run = make_run(tmp_path / "cats")
    index.register(run)
    assert index.known_runs() == [run]
