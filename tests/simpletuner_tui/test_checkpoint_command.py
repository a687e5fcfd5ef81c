"""``checkpoint RUN``: which runs save one more, and which say why not."""

import json

import pytest

from harness.runs import cli, events, stand_in_run, wait_for, wait_until_over
from launcher.errors import ExitCode
from launcher.runs.checkpoint_request import checkpoint_requested
from launcher.runs.directory import create
from launcher.runs.spawn import launch
from launcher.runs.stop import request_stop
from simpletuner_tui.cli import main


def refusal(run, capsys) -> str:
    assert main(["checkpoint", str(run.path)]) == ExitCode.USAGE
    assert not checkpoint_requested(run)
    return capsys.readouterr().err


def test_it_is_saved_and_the_run_goes_on(started, capsys):
    run = started("long")
    wait_for(lambda: events(run, "step"))
    for _ in range(2):
        done = len(events(run, "checkpoint"))
        assert main(["checkpoint", "long"]) == ExitCode.OK
        assert "long: it finishes the step, saves a checkpoint and trains on" in capsys.readouterr().err
        wait_for(lambda done=done: len(events(run, "checkpoint")) == done + 1)
    first, second = (event["step"] for event in events(run, "checkpoint"))
    assert first < second
    wait_for(lambda: events(run, "step")[-1]["step"] > second + 1)
    assert not checkpoint_requested(run)


def test_a_run_that_saves_anyway_or_no_more_is_not_asked(started, capsys):
    run = started("long", STAND_IN_SAVE_SECONDS="2")
    wait_for(lambda: events(run, "step"))
    request_stop(run, "asked to stop")
    wait_for(lambda: json.loads(run.state_json.read_bytes())["stop"])
    assert "long saves a checkpoint already: it is about to end" in refusal(run, capsys)
    wait_until_over(run)
    assert "long does not run: it is stopped" in refusal(run, capsys)


def test_a_request_that_nobody_answered_ends_with_its_launch(started):
    run = started("long", STAND_IN_SAVE_SECONDS="1")
    wait_for(lambda: events(run, "step"))
    request_stop(run, "asked to stop")
    wait_for(lambda: events(run, "stopping"))
    run.checkpoint_json.write_text("{}")
    wait_until_over(run)
    assert not checkpoint_requested(run)
    run.checkpoint_json.write_text("{}")  # of whoever asked in the moment of the end
    launch(run)
    wait_for(lambda: events(run, "step")[-1]["step"] < 3)
    wait_for(lambda: events(run, "step")[-1]["step"] > 3)
    assert events(run, "checkpoint") == []


@pytest.mark.parametrize("going", [True, False])
def test_a_rehearsal_saves_none(started, tmp_path, capsys, going):
    run = started("long") if going else stand_in_run(tmp_path / "prepared", "long")
    told = {**run.plan(), "rehearsal": {"steps": 2, "checkpoint_mib": 1, "saves_here": False}}
    create(run.path, {"plan.json": json.dumps(told).encode()})
    assert "is a rehearsal, which saves no checkpoint" in refusal(run, capsys)


def test_a_run_that_is_not_there_is_named():
    done = cli("checkpoint", "nobody")
    assert (done.returncode, "there is no run 'nobody'" in done.stderr) == (ExitCode.USAGE, True)
