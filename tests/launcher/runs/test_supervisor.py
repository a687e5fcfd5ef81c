"""Supervisors as processes of their own, over a stand-in training."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.runs import end_run, events, gone, stand_in_run, supervisor, wait_for, wait_until_over
from launcher.errors import RefusedToOverwriteError
from launcher.runs.directory import create
from launcher.runs.processes import ProcessIdentity
from launcher.runs.spawn import launch
from launcher.runs.state import Status, status
from launcher.runs.stop import request_stop


def steps(run) -> list[int]:
    return [event["step"] for event in events(run, "step")]


def test_a_run_is_followed_to_its_end(started):
    run = started("short")
    assert status(run).live
    over = wait_until_over(run)
    assert (over.status, over.state["exit_code"], over.state["message"]) == (Status.COMPLETED, 0, "trained 3 steps")
    names = [event["event"] for event in events(run)]
    assert names == ["start", "step", "step", "step", "end"]


def test_a_stop_waits_for_the_save_and_ends_as_stopped(started):
    run = started("long", STAND_IN_SAVE_SECONDS="3")
    wait_for(lambda: steps(run))
    request_stop(run, "asked to stop")
    wait_for(lambda: status(run).status is Status.STOPPING)
    over = wait_until_over(run)
    assert (over.status, over.state["exit_code"]) == (Status.STOPPED, 0)
    assert (run.path / "saved").exists()


def test_a_stop_at_once_ends_the_whole_tree(started):
    run = started("long with child", STAND_IN_SAVE_SECONDS="600")
    wait_for(lambda: steps(run))
    child = int((run.path / "child").read_text())
    request_stop(run, "asked to stop")
    request_stop(run, "asked to stop", now=True)
    over = wait_until_over(run, seconds=15)
    assert (over.status, over.state["exit_code"]) == (Status.STOPPED, 0)
    assert gone(child)
    assert not (run.path / "saved").exists()


def test_a_signal_to_the_supervisor_is_a_stop_request(started):
    run = started("long")
    wait_for(lambda: steps(run))
    os.kill(supervisor(run), signal.SIGTERM)
    assert wait_until_over(run).status is Status.STOPPED
    assert (run.path / "saved").exists()


def test_a_second_launch_of_a_live_run_is_refused(started):
    run = started("long")
    with pytest.raises(RefusedToOverwriteError, match="attach long"):
        launch(run)
    second = subprocess.run([sys.executable, "-m", "launcher", str(run.path)], capture_output=True, check=False)
    assert second.returncode == 4
    assert b"being trained already" in second.stderr
    assert status(run).status is Status.RUNNING


def test_of_two_launches_at_once_one_is_refused(tmp_path):
    run = stand_in_run(tmp_path / "raced", "long")
    code = "import sys; from pathlib import Path; from launcher.runs.directory import RunDirectory as R"
    code += "\nfrom launcher.runs.spawn import launch\nsys.stdin.read(); launch(R(Path(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(run.path)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    try:
        time.sleep(1)  # all are up, and wait for the end of their input
        for racer in racers:
            racer.stdin.close()
        said = [racer.stderr.read() for racer in racers]
        assert sorted(racer.wait(60) for racer in racers) == [0, 1, 1, 1]
        assert sum("RefusedToOverwriteError" in text for text in said) == 3
        assert len(events(run, "start")) == 1
    finally:
        end_run(run)


def test_a_run_that_ended_can_be_launched_again(started):
    run = started("short")
    wait_until_over(run)
    launch(run)
    assert wait_until_over(run).status is Status.COMPLETED
    assert steps(run) == [1, 2, 3, 1, 2, 3]


def test_a_reused_pid_is_not_mistaken_for_the_run(started):
    run = started("long")
    wait_for(lambda: steps(run))
    identity = ProcessIdentity.of(supervisor(run))
    os.kill(identity.pid, signal.SIGKILL)
    # The pid in state.json now names a living process: this one.
    state = json.loads(run.state_json.read_bytes())
    state["supervisor"]["pid"] = os.getpid()
    wait_for(lambda: not status(run).live)
    run.state_json.write_text(json.dumps(state))
    assert status(run).status is Status.LOST
    assert ProcessIdentity.of(os.getpid()).alive
    assert not ProcessIdentity(os.getpid(), identity.started - 1000).alive


def test_a_killed_supervisor_leaves_no_training_unnoticed(started):
    run = started("long", STAND_IN_SAVE_SECONDS="4")
    wait_for(lambda: steps(run))
    os.kill(supervisor(run), signal.SIGKILL)
    wait_for(lambda: status(run).status is Status.LOST)
    orphans = status(run).orphans
    assert orphans
    wait_for(lambda: all(gone(pid) for pid in orphans))
    assert (run.path / "saved").exists()
    reasons = [event["reason"] for event in events(run, "stopping")]
    assert reasons == ["the supervisor of this run died"]


def test_a_training_that_dies_without_a_word_is_explained(started):
    over = wait_until_over(started("silent exit"))
    assert (over.status, over.state["exit_code"]) == (Status.FAILED, 1)
    assert "exit code 7" in over.state["message"] and "train.log" in over.state["message"]


def test_a_killed_training_is_explained_and_its_processes_are_ended(started):
    run = started("killed with child")
    over = wait_until_over(run)
    assert over.status is Status.FAILED
    assert "host RAM ran out" in over.state["message"]
    assert gone(int((run.path / "child").read_text()))


def test_a_failure_is_told_in_the_words_of_the_training(started):
    over = wait_until_over(started("failure"))
    assert (over.status, over.state["exit_code"]) == (Status.FAILED, 2)
    assert over.state["message"] == "this picture is damaged"


def test_a_command_that_does_not_start_is_a_failure(tmp_path):
    plan = {"argv": ["/no/such/python"], "environment": {}}
    run = create(tmp_path / "run", {"plan.json": json.dumps(plan).encode()})
    launch(run)
    over = wait_until_over(run)
    assert (over.status, over.state["exit_code"]) == (Status.FAILED, 3)
    assert "/no/such/python" in over.state["message"]


def test_the_interpreters_own_folder_comes_first_on_the_path(started, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    over = wait_until_over(started("environment"))
    assert over.state["message"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]


def test_the_heartbeat_of_the_supervisor_goes_on(started):
    run = started("long")
    first = status(run).state["heartbeat"]
    wait_for(lambda: status(run).state["heartbeat"] > first + 0.5)
    assert abs(status(run).state["heartbeat"] - time.time()) < 5
    assert wait_for(lambda: status(run).state["phase"] == "train")
