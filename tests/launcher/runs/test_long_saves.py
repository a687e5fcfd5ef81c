"""Stops and deaths during a save of 40 s: longer than the 30 s after which torch elastic kills its workers.

All runs go on at the same time; each test looks at one of them.
"""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.runs import (
    accelerated_run,
    cli,
    end_run,
    events,
    gone,
    stand_in_run,
    supervisor,
    wait_for,
    wait_until_over,
)
from launcher.errors import ExitCode, RefusedToOverwriteError
from launcher.runs.processes import processes_of_run
from launcher.runs.spawn import launch
from launcher.runs.state import Status, status

SAVE_SECONDS = 40
AT_ONCE = 15
"""Seconds that a tree may take to end; asking, waiting 3 s and killing, on a busy machine."""

RUNS = {
    "stopped": accelerated_run,
    "signalled": accelerated_run,
    "stopped-twice": accelerated_run,
    "orphaned": accelerated_run,
    "orphaned-in-its-save": stand_in_run,
    "orphaned-and-ended": stand_in_run,
}


def ok(*command: str) -> str:
    """Messages of a command that must go well."""
    done = cli(*command)
    assert done.returncode == ExitCode.OK, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """All runs, each with its first step done."""
    folder = tmp_path_factory.mktemp("long-saves")
    made = {name: make(folder / name, "long", STAND_IN_SAVE_SECONDS=str(SAVE_SECONDS)) for name, make in RUNS.items()}
    try:
        for run in made.values():
            launch(run)
        for run in made.values():
            wait_for(lambda run=run: events(run, "step"), 120)
        yield made
    finally:
        for run in made.values():
            end_run(run)


@pytest.fixture(scope="module")
def saving(runs):
    """All runs while they save; what was said to whoever stopped them."""
    said = {name: ok("stop", name) for name in ("stopped", "stopped-twice", "orphaned-in-its-save")}
    os.kill(supervisor(runs["signalled"]), signal.SIGTERM)
    for name in ("orphaned", "orphaned-and-ended"):
        os.kill(supervisor(runs[name]), signal.SIGKILL)
    for run in runs.values():
        wait_for(lambda run=run: events(run, "stopping"), 20)
    os.kill(supervisor(runs["orphaned-in-its-save"]), signal.SIGKILL)
    for name in ("orphaned", "orphaned-and-ended", "orphaned-in-its-save"):
        wait_for(lambda run=runs[name]: status(run).status is Status.LOST)
    return said


@pytest.fixture(scope="module")
def over(saving, runs):
    """Seconds from the stop of each run that saves to the end of its last process."""

    def follow(name: str) -> float:
        wait_for(lambda: not status(runs[name]).live and not status(runs[name]).orphans, SAVE_SECONDS + 30, every=0.25)
        return time.time() - events(runs[name], "stopping")[0]["time"]

    with ThreadPoolExecutor() as pool:
        # Listed before the others are ended at once, so that they do not wait for it.
        names = ("stopped", "signalled", "orphaned", "orphaned-in-its-save")
        return dict(zip(names, pool.map(follow, names), strict=True))


def test_a_second_stop_does_not_wait_for_the_save(saving, runs):
    run = runs["stopped-twice"]
    assert "however long that takes; `stop` again ends it at once" in saving["stopped-twice"]
    processes = [process.pid for process in processes_of_run(str(run.path))]
    assert len(processes) >= 2  # accelerate's and the training's
    asked = time.monotonic()
    assert "at once, without a checkpoint" in ok("stop", "stopped-twice")
    ended = wait_until_over(run, AT_ONCE)
    assert time.monotonic() - asked < AT_ONCE
    assert (ended.status, ended.state["exit_code"]) == (Status.STOPPED, ExitCode.OK)
    assert "without a checkpoint" in ended.state["message"]
    assert all(gone(pid) for pid in processes)
    assert not (run.path / "saved").exists()


def test_an_orphaned_training_is_seen_and_ends_at_once_when_stopped_twice(saving, runs):
    run = runs["orphaned-and-ended"]
    orphans = status(run).orphans
    assert orphans
    listed = next(line for line in cli("runs").stdout.splitlines() if line.startswith("orphaned-and-ended "))
    assert "lost, still training" in listed
    assert "its supervisor died; its training finishes the step" in ok("stop", str(run.path))
    assert not any(gone(pid) for pid in orphans)
    assert "at once" in ok("stop", str(run.path))
    assert all(gone(pid) for pid in orphans)
    assert not (run.path / "saved").exists()
    assert status(run).orphans == ()


@pytest.mark.parametrize("name", ["orphaned", "orphaned-in-its-save"])
def test_no_second_training_starts_beside_an_orphaned_one(saving, runs, name):
    run = runs[name]
    requested = run.stop_json.read_bytes()
    with pytest.raises(RefusedToOverwriteError, match=rf"died, and its training.*simpletuner-tui stop {name}"):
        launch(run)
    direct = subprocess.run(
        [sys.executable, "-m", "launcher", run.path], capture_output=True, text=True, timeout=30, check=False
    )
    assert direct.returncode == ExitCode.REFUSED_TO_OVERWRITE
    assert "died, and its training" in direct.stderr
    # The request that ends the orphaned training is still there.
    assert run.stop_json.read_bytes() == requested
    assert len(events(run, "start")) == 1


def test_a_stop_waits_for_the_save_behind_accelerate(over, saving, runs):
    run = runs["stopped"]
    assert "saves a checkpoint and ends, however long that takes" in saving["stopped"]
    ended = status(run)
    assert (ended.status, ended.state["exit_code"]) == (Status.STOPPED, ExitCode.OK)
    assert ended.state["message"].endswith(": asked to stop")
    assert (run.path / "saved").exists()
    assert over["stopped"] >= SAVE_SECONDS


def test_a_signal_to_the_supervisor_waits_for_the_save_behind_accelerate(over, runs):
    ended = status(runs["signalled"])
    assert (ended.status, ended.state["exit_code"]) == (Status.STOPPED, ExitCode.OK)
    assert ended.state["message"].endswith(": the supervisor got SIGTERM")
    assert (runs["signalled"].path / "saved").exists()
    assert over["signalled"] >= SAVE_SECONDS


@pytest.mark.parametrize(
    ("name", "reason"),
    [("orphaned", "the supervisor of this run died"), ("orphaned-in-its-save", "asked to stop")],
)
def test_a_training_without_its_supervisor_saves_and_leaves(over, runs, name, reason):
    assert [event["reason"] for event in events(runs[name], "stopping")] == [reason]
    assert (runs[name].path / "saved").exists()
    assert over[name] >= SAVE_SECONDS
    assert status(runs[name]).orphans == ()
