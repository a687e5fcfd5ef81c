"""Dead, frozen, silent or standing still: real supervisors and trainings that are killed and stopped."""

import json
import os
import signal
import socket
import sys
import time

import psutil
import pytest

from harness.runs import CLI, cli, end_run, events, supervisor, wait_for, wait_until_over
from harness.terminal import Terminal
from launcher.runs import vitality as module
from launcher.runs.directory import create
from launcher.runs.heartbeat import read_heartbeat
from launcher.runs.processes import ProcessIdentity
from launcher.runs.spawn import launch
from launcher.runs.state import RunStatus, Status
from launcher.runs.vitality import STANDSTILL, Vital, stands_after, vitality

SECONDS = 10
"""Within which it must be told."""


@pytest.fixture(autouse=True)
def own_index(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def trainer(run) -> int:
    return int(wait_for(lambda: read_heartbeat(run))["pid"])


def becomes(run, vital: Vital, seconds: float = SECONDS):
    def seen():
        now = vitality(run, time.time())
        return now if now.vital is vital else None

    return wait_for(seen, seconds)


def test_a_run_that_gets_on_is_well_from_its_first_beat_to_its_end(started):
    run = started("short")
    seen = []
    while not seen or seen[-1] is not Vital.RESTS:
        seen.append(vitality(run, time.time()).vital)
        time.sleep(0.02)
    assert set(seen) - {Vital.ENDING} == {Vital.STARTING, Vital.WELL, Vital.RESTS}
    rests = vitality(run, time.time() + 5)
    assert (5 <= rests.seconds < 10, rests.message) == (True, "")


def test_a_training_that_a_signal_has_stopped_is_frozen_and_goes_on_when_let(started):
    run = started("long")
    pid = trainer(run)
    wait_for(lambda: vitality(run, time.time()).step)
    os.kill(pid, signal.SIGSTOP)
    frozen = becomes(run, Vital.FROZEN, 2)
    assert frozen.message == (f"the training (process {pid}) is stopped by a signal; `kill -CONT {pid}` lets it go on")
    assert (frozen.ill, frozen.phase) == (True, "train")
    listed = cli("runs")
    assert "running, frozen for " in listed.stdout
    assert f"warning: long: the training (process {pid}) is stopped by a signal" in listed.stderr
    (told,) = json.loads(cli("runs", "--json").stdout)
    assert (told["status"], told["vitality"]["vital"]) == ("running", "frozen")
    os.kill(pid, signal.SIGCONT)
    assert not becomes(run, Vital.WELL).ill


def test_a_whole_tree_that_is_stopped_is_told_by_whoever_follows_it(started):
    run = started("long")
    tree = [trainer(run), supervisor(run)]
    attached = Terminal(CLI, "attach", "long", "--plain")
    try:
        wait_for(lambda: events(run, "step"))
        for pid in tree:
            os.kill(pid, signal.SIGSTOP)
        attached.read_until(f"warning: the training (process {tree[0]}) is stopped by a signal", SECONDS)
        for pid in reversed(tree):
            os.kill(pid, signal.SIGCONT)
        attached.read_until("long goes on", SECONDS)
    finally:
        for pid in tree:
            os.kill(pid, signal.SIGCONT)
        attached.close()


def test_a_supervisor_that_a_signal_has_stopped_is_told(started):
    run = started("long")
    becomes(run, Vital.WELL)
    os.kill(supervisor(run), signal.SIGSTOP)
    try:
        assert becomes(run, Vital.FROZEN, 2).message.startswith("its supervisor (process ")
    finally:
        os.kill(supervisor(run), signal.SIGCONT)


def test_a_killed_supervisor_leaves_an_orphan_and_then_a_dead_run(started):
    run = started("long", STAND_IN_SAVE_SECONDS="2")
    becomes(run, Vital.WELL)
    os.kill(supervisor(run), signal.SIGKILL)
    orphaned = becomes(run, Vital.ORPHANED, 2)
    assert (orphaned.ill, orphaned.message) == (True, "its supervisor died; the training ends after its step")
    dead = becomes(run, Vital.DEAD)
    assert "died without a word" in dead.message


def test_a_killed_training_is_told_while_its_launcher_has_not_noticed(tmp_path):
    """As torch elastic, which may take half a minute to end the other processes."""
    command = f"{sys.executable} -m harness.stand_in {tmp_path}/run long; sleep 600"
    plan = {"argv": ["sh", "-c", command], "environment": {}}
    run = create(tmp_path / "run", {"plan.json": json.dumps(plan).encode()})
    try:
        launch(run)
        becomes(run, Vital.WELL)
        os.kill(trainer(run), signal.SIGKILL)
        ending = becomes(run, Vital.ENDING, 5)
        assert (ending.ill, ending.message) == (False, "the training died; its supervisor ends what is left of it")
    finally:
        end_run(run)


def test_a_killed_training_is_over_within_seconds(started):
    run = started("long")
    os.kill(trainer(run), signal.SIGKILL)
    assert wait_until_over(run, 5).status is Status.FAILED
    assert vitality(run, time.time()).vital is Vital.RESTS


def test_a_hung_main_thread_is_told_since_when_and_where_although_its_heart_beats(started, monkeypatch):
    monkeypatch.setattr(module, "STANDS_AFTER", 2.0)
    run = started("hangs")
    stands = becomes(run, Vital.STANDS)
    last = events(run, "step")[-1]["time"]
    assert (stands.phase, stands.step, stands.ill) == ("train", 3, True)
    assert stands.since == pytest.approx(last, abs=0.3)
    assert stands.message == f"no progress for {stands.seconds:.0f} s in phase train"
    beats = read_heartbeat(run)
    assert time.time() - beats["time"] < 3
    assert 0.05 < beats["pace"] < 1.0


@pytest.mark.parametrize(
    ("beat", "vital", "message"),
    [
        ({}, Vital.WELL, ""),
        ({"time": -9}, Vital.SILENT, "no sign of life from the training for 9 s, in phase engine"),
        ({"time": -300}, Vital.SILENT, "no sign of life from the training for 5 minutes, in phase engine"),
        ({"progressed": -1700}, Vital.WELL, ""),  # compiling
        ({"progressed": -1900}, Vital.STANDS, "no progress for 32 minutes in phase engine"),
        ({"progressed": -90, "pace": 1.0}, Vital.STANDS, "no progress for 90 s in phase engine"),
        ({"progressed": -90, "pace": 30.0}, Vital.WELL, ""),
        ({"host": "elsewhere", "pid": 1}, Vital.WELL, ""),
    ],
)
def test_when_something_is_told(tmp_path, beat, vital, message):
    run = create(tmp_path / "run", {"plan.json": b"{}"})
    now = time.time()
    whole = {"time": now, "progressed": now, "phase": "engine", "step": None, "pace": 0.0, "host": socket.gethostname()}
    whole |= ProcessIdentity.of(os.getpid()).to_json()
    beat = {name: now + value if name in ("time", "progressed") else value for name, value in beat.items()}
    run.heartbeat_json.write_text(json.dumps({**whole, **beat}))
    state = {"phase": "engine", "heartbeat": now, "started": now - 4000}
    assert psutil.pid_exists(1)
    found = vitality(run, now, RunStatus(Status.RUNNING, state))
    assert (found.vital, found.message) == (vital, message)
    silent = vitality(run, now, RunStatus(Status.RUNNING, {**state, "heartbeat": now - 20}))
    assert (silent.vital, silent.message) == (Vital.SILENT, "no sign of life from its supervisor for 20 s")


def test_a_start_without_a_word_is_told_after_two_minutes(tmp_path):
    run = create(tmp_path / "run", {"plan.json": b"{}"})

    def after(seconds: float):
        now = RunStatus(Status.RUNNING, {"phase": "starting", "heartbeat": 1000 + seconds, "started": 1000})
        return vitality(run, 1000 + seconds, now)

    assert after(100).vital is Vital.STARTING
    assert after(130).message == "no sign of life from the training since its start, for 2 minutes"
    assert stands_after(0.0) == STANDSTILL
