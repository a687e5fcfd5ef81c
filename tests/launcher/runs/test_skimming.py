"""Long files of events: what is seldom is never lost, and the newest of the rest is there."""

import json

import pytest

from launcher.runs import events as module
from launcher.runs.events import EventLog, Skim, last_start, read_events


@pytest.fixture
def long_file(tmp_path, monkeypatch):
    """Two launches of 900 steps, which count as long."""
    monkeypatch.setattr(module, "SHORT", 1000)
    monkeypatch.setattr(module, "CHUNK", 5000)
    monkeypatch.setattr(module, "SAMPLES", 100)
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    for first in (1, 901):
        log.emit("start", supervisor=first)
        log.emit("phase", phase="train", state="start")
        for step in range(first, first + 900):
            log.emit("step", step=step, loss=0.5)
            log.emit("phase", phase="train", state="progress", done=step)
            if step % 100 == 0:
                log.emit("checkpoint", step=step, path='named "event": "step" to mislead')
    return path


def test_all_that_is_seldom_comes_in_its_order_with_some_steps_and_the_last(long_file):
    skim = Skim(long_file)
    given = list(skim)
    kinds = [event["event"] for event in given]
    assert [event["step"] for event in given if event["event"] == "checkpoint"] == list(range(100, 1801, 100))
    assert (kinds.count("start"), kinds[:2]) == (2, ["start", "phase"])
    steps = [event["step"] for event in given if event["event"] == "step"]
    assert steps == sorted(set(steps))
    assert 80 <= len(steps) <= 200
    assert steps[-1] == 1800
    assert [event["done"] for event in given if event.get("state") == "progress"][-1] == 1800
    assert skim.offset == long_file.stat().st_size


def test_what_is_written_meanwhile_comes_next_and_half_a_line_waits(long_file):
    with long_file.open("a") as file:
        file.write('{"time": 1, "event": "st')
    skim = Skim(long_file)
    list(skim)
    assert read_events(long_file, skim.offset) == ([], skim.offset)
    with long_file.open("a") as file:
        file.write('op"}\n')
    assert [event["event"] for event in read_events(long_file, skim.offset)[0]] == ["stop"]


def test_a_short_file_is_read_whole_and_none_is_nothing(tmp_path):
    path = tmp_path / "events.jsonl"
    skim = Skim(path)
    assert (list(skim), skim.offset) == ([], 0)
    for step in range(50):
        EventLog(path).emit("step", step=step)
    assert [event["step"] for event in Skim(path)] == list(range(50))


def test_a_limit_cuts_between_lines(long_file):
    offset, read = 0, []
    while (more := read_events(long_file, offset, 2000))[1] > offset:
        events, offset = more
        read += events
    assert read == read_events(long_file)[0]


@pytest.mark.parametrize("size", [150, 151, 160, 177, 5000])
def test_the_latest_launch_is_found_wherever_chunks_end(long_file, monkeypatch, size):
    monkeypatch.setattr(module, "CHUNK", size)
    content = long_file.read_bytes()
    begun = json.loads(content[last_start(long_file) :].splitlines()[0])
    assert (begun["event"], begun["supervisor"]) == ("start", 901)


def test_no_launch_begins_at_the_beginning(tmp_path):
    assert last_start(tmp_path / "none") == 0
    EventLog(tmp_path / "events.jsonl").emit("step", step=1)
    assert last_start(tmp_path / "events.jsonl") == 0
