"""Starting a supervisor that outlives whoever starts it."""

import os
import signal
import subprocess
import sys
import time

from launcher.errors import CannotRunHereError, ExitCode
from launcher.runs.directory import RunDirectory, read_json
from launcher.runs.processes import ProcessIdentity
from launcher.runs.state import refuse_taken

PATIENCE = 30.0
"""Seconds a supervisor may take to say that it lives."""


def launch(run: RunDirectory) -> None:
    """Starts the supervisor of a run in a session of its own and returns once it holds the run.

    It gets no terminal and no pipe: closing either would end it.

    Raises:
        RefusedToOverwriteError: the run is being trained already.
        CannotRunHereError: the supervisor did not come up.
    """
    refuse_taken(run)
    before = read_json(run.state_json) or {}
    # Until it has its own session a Ctrl-C of this terminal reaches it too, and would end it before it is anybody.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        supervisor = _start(run)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        state = read_json(run.state_json) or {}
        # Another launch of the same run may have been faster; its supervisor's word is not this one's.
        told = ProcessIdentity.from_json(state.get("supervisor"))
        if told is not None and told.pid == supervisor.pid and state.get("started") != before.get("started"):
            return
        if (code := supervisor.poll()) is not None:
            if code == ExitCode.REFUSED_TO_OVERWRITE:
                refuse_taken(run)
            break
        time.sleep(0.05)
    raise CannotRunHereError(f"the supervisor of {run.path} did not come up; {run.log} says why")


def _start(run: RunDirectory) -> "subprocess.Popen[bytes]":
    with run.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "launcher", str(run.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
