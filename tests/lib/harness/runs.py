"""Runs as tests need them: real supervisors over a stand-in training, and the command line as a process."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from launcher.runs.directory import RunDirectory, create
from launcher.runs.state import status

CLI = str(Path(sys.executable).parent / "simpletuner-tui")


def cli(*arguments: str, cwd: Path | None = None, stdin: str | None = None, timeout: float = 240, **environment: str):
    """Runs one command to its end."""
    return subprocess.run(
        [CLI, *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
        check=False,
    )


def stand_in_run(path: Path, mode: str, **environment: str) -> RunDirectory:
    """A run directory whose training is ``harness.stand_in``, which needs no torch."""
    plan = {"argv": [sys.executable, "-m", "harness.stand_in", str(path), mode], "environment": environment}
    return create(path, {"plan.json": json.dumps(plan).encode()})


def wait_for(what, seconds: float = 30.0):
    """What a callable gives once it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def wait_until_over(run: RunDirectory, seconds: float = 60.0):
    """The status of a run once no supervisor holds it."""
    wait_for(lambda: not status(run).live, seconds)
    return status(run)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True
