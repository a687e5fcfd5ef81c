"""Interfaces whose terminal goes away, or that are killed: the run that they started or look at goes on."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from harness.losing import HANG_UP, KILL, TERMINATE, TMUX, WAYS, bound_to, in_session, lose, of_run, opened
from harness.runs import CLI, end_run, events, stand_in_run, wait_for
from harness.startup import trained_by_stand_in
from launcher.errors import ExitCode
from launcher.runs.directory import RunDirectory
from launcher.runs.spawn import launch
from launcher.runs.state import Status, status

TOLD = "It goes on without this terminal."
"""Of a dashboard, before there is a message."""

ways = pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, marks=pytest.mark.skipif(way == TMUX and not shutil.which("tmux"), reason="no tmux"))
        for way in WAYS
    ],
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that goes on until it is ended, in its first steps; all look at this one."""
    run = stand_in_run(tmp_path_factory.mktemp("runs") / "cats-1", "long with bar")
    launch(run)
    wait_for(lambda: events(run, "step"))
    yield run
    end_run(run)


@pytest.fixture
def window():
    """Opens terminals and leaves none."""
    windows = []

    def open_window(*arguments: str, **options):
        windows.append(opened(*arguments, **options))
        return windows[-1]

    yield open_window
    for each in windows:
        each.close()


def lost(window, way: str, run: RunDirectory, terminated: int = ExitCode.CANCELLED) -> None:
    """Ends an interface; nothing of it stays, all of the run does, and a terminal that is left is as it was.

    Args:
        window: with the interface in it.
        way: in which it ends.
        run: what it shows.
        terminated: the exit code that SIGTERM leads to.
    """
    before = {process.pid for process in of_run(run)}
    assert bound_to(window.pid, run) == []
    lose(window, way)
    if way != TMUX:
        codes = {HANG_UP: ExitCode.HANGUP, KILL: -signal.SIGKILL, TERMINATE: terminated}
        assert window.wait(10) == codes[way]
    wait_for(lambda: not in_session(window.pid), 5)
    made = len(events(run, "step"))
    wait_for(lambda: len(events(run, "step")) > made + 2, 10)
    assert {process.pid for process in of_run(run)} == before
    assert status(run).status is Status.RUNNING
    assert not run.stop_json.exists()
    if way == TERMINATE:
        assert window.restored


@ways
def test_a_dashboard_that_is_lost_takes_nothing_along(run, window, way, tmp_path):
    shown = window(way, CLI, "attach", str(run.path), cwd=tmp_path)
    shown.read_until("train")
    assert way == TMUX or not shown.restored, "else nothing would be told by that"
    lost(shown, way, run)


@ways
def test_lines_that_are_lost_take_nothing_along(run, window, way, tmp_path):
    shown = window(way, CLI, "attach", str(run.path), "--plain", cwd=tmp_path)
    shown.read_until("train")
    lost(shown, way, run, terminated=-signal.SIGTERM)  # lines change nothing of a terminal, so nobody catches it


@ways
def test_who_launched_a_run_may_be_lost(home, window, way):
    draft = {"answers": json.loads((home / "answers.json").read_text())["answers"], "base": str(home)}
    state = Path(os.environ["XDG_STATE_HOME"]) / "simpletuner-tui"
    state.mkdir(parents=True)
    (state / "draft.json").write_text(json.dumps(draft))
    wizard = window(way, CLI, cwd=home, **trained_by_stand_in("long with bar"))
    wizard.read_until("Continue the draft")
    wizard.press("Enter")
    wizard.read_until("nothing speaks against it")
    wizard.press("F9")
    wizard.read_until("host RAM")
    wizard.type("y")
    try:
        wizard.read_until(TOLD)
        (path,) = (home / "runs").glob("sdxl-*")
        wait_for(lambda: events(RunDirectory(path), "step"))  # all of its processes are there
        lost(wizard, way, RunDirectory(path))
    finally:
        for path in (home / "runs").glob("sdxl-*"):
            end_run(RunDirectory(path))
