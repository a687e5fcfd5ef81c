"""Starting a supervisor that outlives whoever starts it."""

import os
import subprocess
import sys
import time

from launcher.errors import CannotRunHereError, RefusedToOverwriteError
from launcher.runs.directory import RunDirectory, read_json
from launcher.runs.state import lock_is_held

PATIENCE = 30.0
"""Seconds a supervisor may take to say that it lives."""


def launch(run: RunDirectory) -> None:
    """Starts the supervisor of a run in a session of its own and returns once it holds the run.

    It gets no terminal and no pipe: closing either would end it.

    Raises:
        RefusedToOverwriteError: the run is being trained already.
        CannotRunHereError: the supervisor did not come up.
    """
    if lock_is_held(run):
        raise RefusedToOverwriteError(
            f"{run.path} is being trained already; follow it with `simpletuner-tui attach {run.name}`"
        )
    before = read_json(run.state_json) or {}
    with run.log.open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "launcher", str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        state = read_json(run.state_json)
        if state is not None and state.get("started") != before.get("started"):
            return
        if supervisor.poll() is not None:
            break
        time.sleep(0.05)
    raise CannotRunHereError(f"the supervisor of {run.path} did not come up; {run.log} says why")
