"""The supervisor of a second machine: its own files, and the run's word on how and when it ends."""

import json
import os
import signal
import sys

import pytest

from harness.runs import end_run, events, supervisor, wait_for, wait_until_over
from launcher.runs.directory import RunDirectory, create
from launcher.runs.index import find
from launcher.runs.outcome import Outcome, write_outcome
from launcher.runs.spawn import launch
from launcher.runs.state import Status, status
from launcher.runs.stop import request_stop, stop_requested


@pytest.fixture(autouse=True)
def own_index(tmp_path, monkeypatch):
    """No second machines of other tests."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


@pytest.fixture
def joined(tmp_path):
    """Starts what a second machine does: its training reads and writes the run that lies above its folder."""
    runs = []

    def start(mode: str, *command: str):
        run = create(tmp_path / "run", {"plan.json": b"{}"})
        argv = [sys.executable, *(command or ("-m", "harness.stand_in", str(run.path), mode))]
        plan = {"argv": argv, "environment": {}, "trains": str(run.path)}
        second = create(run.path / "machine-1", {"plan.json": json.dumps(plan).encode()})
        runs.append(second)
        launch(second)
        return run, second

    yield start
    for run in runs:
        end_run(run)


def test_it_ends_with_its_training_and_leaves_the_runs_files_to_the_first_machine(joined):
    run, second = joined("short")
    over = wait_until_over(second)
    assert (over.status, over.state["message"]) == (Status.COMPLETED, "its part is done")
    assert not run.state_json.exists()
    assert not run.lock.exists()
    assert [event["event"] for event in events(second)] == ["start", "end"]
    assert second.name == "run/machine-1"
    assert find(second.name) == second  # so that it can be stopped by the name that is told


def test_a_stop_that_reaches_it_is_passed_on_to_the_run(joined):
    run, second = joined("long")
    wait_for(lambda: events(run, "step"))
    os.kill(supervisor(second), signal.SIGTERM)
    over = wait_until_over(second)
    assert (over.status, over.state["message"]) == (Status.STOPPED, "the supervisor got SIGTERM")
    assert stop_requested(run).reason == "the supervisor got SIGTERM"
    assert (run.path / "saved").exists()


def test_a_stop_at_once_of_the_run_ends_it_and_one_of_an_earlier_launch_does_not(joined, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    request_stop(run, "yesterday", now=True)
    run, second = joined("waits for the first machine", "-c", "import time; time.sleep(600)")
    before = status(second).state["heartbeat"]
    wait_for(lambda: status(second).state["heartbeat"] > before + 2)  # it has looked several times
    assert status(second).status is Status.RUNNING
    request_stop(run, "today", now=True)
    over = wait_until_over(second)
    assert (over.status, over.state["message"]) == (Status.STOPPED, "today; ended at once, without a checkpoint")


def test_a_failure_that_any_machine_explained_is_told_and_an_older_one_is_not(joined, tmp_path):
    run, second = joined("failure")
    over = wait_until_over(second)
    assert (over.status, over.state["exit_code"], over.state["message"]) == (
        Status.FAILED,
        2,
        "this picture is damaged",
    )
    write_outcome(run, Outcome("failed", 2, "yesterday"))
    os.utime(run.outcome_json, (1e9, 1e9))
    run, second = joined("silent exit")
    over = wait_until_over(second)
    assert over.status is Status.FAILED
    assert "ended with exit code 7 and no word" in over.state["message"]


def test_what_is_started_over_ssh_is_told_no_secret_and_leaves_no_file_of_what_it_was_told(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    code = (
        "import json, os; json.dump(dict(os.environ), open('told.json', 'w')); open('.deepspeed_env', 'a').write('A=1')"
    )
    plan = {"argv": [sys.executable, "-c", code], "environment": {"OMP_NUM_THREADS": "3"}, "over_ssh": True}
    run = create(tmp_path / "run", {"plan.json": json.dumps(plan).encode(), ".deepspeed_env": b"OF=before\n"})
    try:
        launch(run)
        wait_until_over(run)
    finally:
        end_run(run)
    told = json.loads((run.path / "told.json").read_text())
    assert "HF_TOKEN" not in told
    assert (told["NCCL_DEBUG"], told["OMP_NUM_THREADS"], told["HOME"]) == ("INFO", "3", os.environ["HOME"])
    assert told["SIMPLETUNER_RUN_DIR"] == str(run.path)
    assert not (run.path / ".deepspeed_env").exists()
