"""Runs as tests need them: real supervisors over a stand-in training, and the command line as a process."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from harness.fake_model import write_model, write_pictures
from launcher.config.accelerate import LaunchSettings
from launcher.config.settings import Settings
from launcher.config.training import DataSettings, ModelSettings, TrainingSettings
from launcher.errors import ExitCode
from launcher.plan import make_plan
from launcher.runs.directory import RunDirectory, create
from launcher.runs.events import read_events
from launcher.runs.processes import processes_of_run
from launcher.runs.state import status

CLI = str(Path(sys.executable).parent / "simpletuner-tui")
SAME_EVERYWHERE = ("accelerate.yaml", "deepspeed.json", "training.json")
"""Files of a run that replaying its answers gives byte by byte, whatever the machine."""


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


def planned(*arguments: str, cwd: Path, stdin: str | None = None) -> dict:
    """What a dry run would do."""
    done = cli("--replay", *arguments, "--dry-run", "--json", cwd=cwd, stdin=stdin)
    assert done.returncode == ExitCode.OK, done.stderr
    return json.loads(done.stdout)


def stand_in_run(path: Path, mode: str, *, rehearsal: dict | None = None, **environment: str) -> RunDirectory:
    """A run directory whose training is ``harness.stand_in``, which needs no torch."""
    plan = {"argv": [sys.executable, "-m", "harness.stand_in", str(path), mode], "environment": environment}
    if rehearsal:
        plan["rehearsal"] = rehearsal
    return create(path, {"plan.json": json.dumps(plan).encode()})


def accelerated_run(path: Path, mode: str, **environment: str) -> RunDirectory:
    """The stand-in behind the real ``accelerate launch``, started by the command line that a plan has."""
    folder = path.parent / "data"
    if not folder.exists():
        write_model(folder / "model")
        write_pictures(folder / "pictures")
    training = TrainingSettings(
        model=ModelSettings(pretrained_model_name_or_path=str(folder / "model")),
        data=DataSettings(instance_data_dir=str(folder / "pictures"), resolution=64),
    )
    plan = make_plan(Settings(launch=LaunchSettings(use_cpu=True), training=training), b"{}\n", path)
    argv = [*("harness.stand_in" if part == "launcher.train" else part for part in plan.argv), mode]
    content = {"argv": argv, "environment": {**plan.environment, **environment}}
    return create(path, {**plan.files, "plan.json": json.dumps(content).encode()})


def end_run(run: RunDirectory) -> None:
    """Leaves nothing of a run behind."""
    # One that its supervisor begins just now belongs to the run a moment later only.
    wait_for(lambda: _killed(run) and not status(run).going)


def _killed(run: RunDirectory) -> bool:
    left = processes_of_run(str(run.path))
    if status(run).live:
        left.append(psutil.Process(supervisor(run)))
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return not left


def supervisor(run: RunDirectory) -> int:
    """The pid of a run's supervisor."""
    return int(status(run).state["supervisor"]["pid"])


def events(run: RunDirectory, *names: str) -> list[dict]:
    """The events of a run, all or those of some names."""
    return [event for event in read_events(run.events_jsonl)[0] if not names or event["event"] in names]


def wait_for(what, seconds: float = 30.0, every: float = 0.05):
    """What a callable gives once it is true, asked every so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(every)
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
