"""state.json, the supervisor's account of a run, and what an interface concludes from it."""

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from launcher.errors import RefusedToOverwriteError
from launcher.runs.directory import RunDirectory, read_json, write_atomic
from launcher.runs.processes import processes_of_run, processes_of_runs


@dataclass(frozen=True, slots=True)
class RunState:
    """What the supervisor writes; nobody else does."""

    phase: str
    """``starting``, a phase of the training, ``stopping`` or ``ended``."""
    supervisor: dict[str, float]
    """pid and start time."""
    heartbeat: float
    """Seconds since the epoch, renewed every second while the supervisor lives."""
    started: float
    step: int | None = None
    child: dict[str, float] | None = None
    stop: dict[str, Any] | None = None
    """The stop request it knows of."""
    result: str | None = None
    exit_code: int | None = None
    message: str = ""
    ended: float | None = None
    warnings: tuple[str, ...] = field(default=())
    child_exit: int | None = None
    """Exit code of what the supervisor started; negative for the signal that ended it."""
    log_start: int = 0
    """Where this launch begins in train.log, in bytes."""


class Status(StrEnum):
    """What a run is, as its directory shows it."""

    PREPARED = "prepared"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"
    """The supervisor died without a result."""


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run at a glance."""

    status: Status
    state: dict[str, Any]
    """state.json as it is; empty before the start."""
    orphans: tuple[int, ...] = ()
    """Training processes that outlived their supervisor."""

    @property
    def live(self) -> bool:
        """Whether a supervisor holds it."""
        return self.status in (Status.RUNNING, Status.STOPPING)

    @property
    def failed(self) -> bool:
        """Whether it ended otherwise than it or anybody wanted."""
        return self.status in (Status.FAILED, Status.LOST)

    @property
    def going(self) -> bool:
        """Whether anything of it still runs, with a supervisor or without."""
        return self.live or bool(self.orphans)


def write_state(run: RunDirectory, state: RunState) -> None:
    """Replaces state.json."""
    write_atomic(run.state_json, json.dumps(asdict(state), indent=1).encode())


def lock_is_held(run: RunDirectory) -> bool:
    """Whether a supervisor lives: the kernel drops its lock with it, so no reused pid is taken for one."""
    try:
        handle = os.open(run.lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def status(run: RunDirectory) -> RunStatus:
    """What a run is now."""
    return statuses([run])[0]


def statuses(runs: Sequence[RunDirectory]) -> list[RunStatus]:
    """What runs are now, in their order. The machine's processes are looked through once where any needs it."""
    told = [_told(run) for run in runs]
    lost = [str(run.path) for run, now in zip(runs, told, strict=True) if now.status is Status.LOST]
    left = processes_of_runs(lost) if lost else {}
    return [
        replace(now, orphans=tuple(process.pid for process in left[str(run.path)])) if str(run.path) in left else now
        for run, now in zip(runs, told, strict=True)
    ]


def _told(run: RunDirectory) -> RunStatus:
    """What its directory says."""
    state = read_json(run.state_json)
    if state is None:
        return RunStatus(Status.PREPARED, {})
    if lock_is_held(run):
        return RunStatus(Status.STOPPING if state.get("stop") else Status.RUNNING, state)
    if state.get("result") in ("completed", "stopped", "failed"):
        return RunStatus(Status(state["result"]), state)
    return RunStatus(Status.LOST, state)


def refuse_taken(run: RunDirectory) -> None:
    """Refuses a run that a supervisor holds, or that the training of a dead one still writes.

    Raises:
        RefusedToOverwriteError: says which, and how to follow or end it.
    """
    if lock_is_held(run):
        raise RefusedToOverwriteError(
            f"{run.path} is being trained already; follow it with `simpletuner-tui attach {run.name}`"
        )
    refuse_beside_orphans(run)


def refuse_beside_orphans(run: RunDirectory) -> None:
    """Refuses a run that the training of a dead supervisor still writes.

    Raises:
        RefusedToOverwriteError: says how to follow and end it.
    """
    if processes_of_run(str(run.path)):
        raise RefusedToOverwriteError(
            f"the supervisor of {run.path} died, and its training saves a checkpoint before it ends; wait for it with "
            f"`simpletuner-tui attach {run.name}`, or end it at once with `simpletuner-tui stop {run.name} --now`"
        )
