"""Every way in which a person's terminal, or the interface in it, goes away."""

import contextlib
import os
import signal

import psutil

from harness.terminal import Terminal
from harness.tmux import Tmux
from launcher.runs.directory import RunDirectory
from launcher.runs.processes import processes_of_run
from launcher.runs.state import status

HANG_UP, TMUX, KILL, TERMINATE = WAYS = ("line dropped", "tmux session killed", "SIGKILL", "SIGTERM")


def opened(way: str, *command: str, cwd, **environment: str) -> Terminal | Tmux:
    """A terminal that can end in that way, with a command in it."""
    return (Tmux if way == TMUX else Terminal)(*command, cwd=cwd, **{"TERM": "xterm-256color", **environment})


def lose(window: Terminal | Tmux, way: str) -> None:
    """Lets it end so."""
    if isinstance(window, Tmux):
        window.kill_session()
    elif way == HANG_UP:
        window.hang_up()
    else:
        os.kill(window.pid, signal.Signals[way])


def in_session(leader: int) -> list[int]:
    """Processes of a session that live; a command in a terminal of its own leads one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def of_run(run: RunDirectory) -> list[psutil.Process]:
    """A run's supervisor and everything below it."""
    supervisor = psutil.Process(int(status(run).state["supervisor"]["pid"]))
    return [supervisor, *processes_of_run(str(run.path), but=[supervisor.pid])]


def bound_to(leader: int, run: RunDirectory) -> list[psutil.Process]:
    """Processes of a run that a terminal could take along: of its session, or with one at all."""
    return [process for process in of_run(run) if os.getsid(process.pid) == leader or process.terminal() is not None]
