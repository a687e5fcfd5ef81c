"""Which process is which, and ending a tree of them."""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psutil

RUN_VARIABLE = "SIMPLETUNER_RUN_DIR"
"""Every process of a run has this in its environment; torch elastic starts its workers in sessions of their
own, so neither a session nor a process group holds them all."""

SAME_START = 1.0
"""Start times of one process as read at two times agree within this many seconds."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    started: float
    """Seconds since the epoch."""

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity":
        """The identity of a living process."""
        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def from_json(cls, content: Any) -> "ProcessIdentity | None":
        """Read back from a state file."""
        try:
            return cls(int(content["pid"]), float(content["started"]))
        except (TypeError, KeyError, ValueError):
            return None

    def to_json(self) -> dict[str, float]:
        """For a state file."""
        return {"pid": self.pid, "started": self.started}

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        try:
            process = psutil.Process(self.pid)
            return abs(process.create_time() - self.started) < SAME_START and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False


def booted() -> float:
    """When this machine was started, in seconds since the epoch."""
    return float(psutil.boot_time())


def processes_of_run(path: str, *, but: Iterable[int] = ()) -> list[psutil.Process]:
    """Living processes that belong to the run directory ``path``, wherever they were started from."""
    return processes_of_runs([path], but=but)[path]


def processes_of_runs(paths: Iterable[str], *, but: Iterable[int] = ()) -> dict[str, list[psutil.Process]]:
    """The same for several run directories, by the path each was given as; the machine's processes are walked once."""
    left_out = {os.getpid(), *but}
    found: dict[str, list[psutil.Process]] = {path: [] for path in paths}
    places = {os.path.realpath(path): path for path in found}
    for process in psutil.process_iter():
        if process.pid in left_out:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            run = process.environ().get(RUN_VARIABLE)
            path = places.get(os.path.realpath(run)) if run else None
            if path is not None and process.status() != psutil.STATUS_ZOMBIE:
                found[path].append(process)
    return found


def end_processes(processes: Iterable[psutil.Process], patience: float = 3.0) -> None:
    """Asks processes to end, and kills those that have not after ``patience`` seconds."""
    listed = list(processes)
    for process in listed:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(listed, timeout=patience)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=patience)
