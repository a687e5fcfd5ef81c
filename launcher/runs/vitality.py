"""Whether a run that should be going is: dead, frozen, silent or standing still, told within seconds. Torch-free.

``state`` says what a run is by its files and its lock; this looks at the processes behind them and at when they last
said something, so that nobody waits for a run that will not get on.
"""

import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import psutil

from launcher.runs.directory import RunDirectory
from launcher.runs.heartbeat import read_heartbeat
from launcher.runs.outcome import read_outcome
from launcher.runs.processes import ProcessIdentity
from launcher.runs.state import RunStatus, Status, status

SILENT_AFTER = 8.0
"""Seconds without a beat: rank 0 beats every second, and a busy machine or a C extension may hold one up for a few."""
SUPERVISOR_SILENT_AFTER = 15.0
"""Of the supervisor, whose every beat goes to the disk: a save of gigabytes to the same one holds it up for longer."""
STANDS_AFTER = 60.0
"""Seconds in one place that are never told of: less is a slow step."""
TIMES_ITS_PACE = 5
"""How many times as long as it ever took from one sign of progress to the next it may take."""
STANDSTILL = 1800.0
"""Seconds in a phase without such signs; compiling or a slow save may take many minutes."""
STARTS_WITHIN = 120.0
"""Seconds to the first beat: Python loads torch before, which network storage may draw out."""
GONE_AFTER = 1.0
"""Seconds after its last beat that a process which is not found is taken for dead."""
FULL = 2**20
"""Bytes below which a disk takes nothing any more."""


class Vital(StrEnum):
    """How a run is."""

    RESTS = "rests"
    """It was never started, or has ended and says how: ``RunStatus`` has the rest."""
    STARTING = "starting"
    """Its supervisor lives; the training has not said anything yet."""
    WELL = "well"
    STANDS = "stands"
    """The training lives and does not get on."""
    SILENT = "silent"
    """Nobody has heard of the training, or of its supervisor, for seconds."""
    FROZEN = "frozen"
    """A signal has stopped the training or its supervisor (SIGSTOP, SIGTSTP)."""
    ENDING = "ending"
    """The training is gone; its supervisor is about to say how it ended."""
    ORPHANED = "orphaned"
    """The supervisor is dead; the training saves and leaves."""
    DEAD = "dead"
    """Its supervisor died without a word, and nothing of it runs."""


ILL = frozenset({Vital.STANDS, Vital.SILENT, Vital.FROZEN, Vital.ORPHANED, Vital.DEAD})
"""What a person should look at."""


@dataclass(frozen=True, slots=True)
class Vitality:
    """How a run is, since when and where."""

    vital: Vital
    since: float
    """When it was last known to get on, in seconds since the epoch; of one that rests, when it ended, 0 before."""
    seconds: float
    """From then to now."""
    phase: str
    step: int | None
    message: str = ""
    """A sentence for people; empty where there is nothing to say."""

    @property
    def ill(self) -> bool:
        """Whether a person should look at it."""
        return self.vital in ILL

    def to_json(self) -> dict[str, Any]:
        """For ``runs --json``."""
        return {"vital": self.vital, "since": self.since, "message": self.message}


def vitality(run: RunDirectory, now: float, current: RunStatus | None = None) -> Vitality:
    """How a run is.

    Args:
        run: its directory.
        now: seconds since the epoch.
        current: what it is, where that was asked already.
    """
    look = _Look(run, now, current or status(run), read_heartbeat(run) or {})
    found = next(filter(None, (check(look) for check in _CHECKS)), None) or _Found(Vital.WELL, look.progressed)
    state, beat = look.current.state, look.beat if look.current.going else {}
    return Vitality(
        vital=found.vital,
        since=found.since,
        seconds=max(0.0, now - found.since) if found.since else 0.0,
        phase=str(beat.get("phase", state.get("phase", ""))),
        step=beat.get("step") if beat else state.get("step"),
        message=found.message,
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What can be seen of a run."""

    run: RunDirectory
    now: float
    current: RunStatus
    beat: dict[str, Any]
    """The last of rank 0; empty before the first."""

    def at(self, name: str) -> float:
        """A time in the beat, in seconds since the epoch; 0 where there is none."""
        return float(self.beat.get(name) or 0.0)

    @property
    def started(self) -> float:
        return float(self.current.state.get("started") or 0.0)

    @property
    def supervised(self) -> float:
        """When the supervisor last wrote."""
        return float(self.current.state.get("heartbeat") or 0.0)

    @property
    def progressed(self) -> float:
        return self.at("progressed") or self.started

    @property
    def trainer(self) -> ProcessIdentity | None:
        """Rank 0, where it can be seen from here."""
        return ProcessIdentity.from_json(self.beat) if self.beat.get("host") == socket.gethostname() else None

    @property
    def supervisor(self) -> ProcessIdentity | None:
        return ProcessIdentity.from_json(self.current.state.get("supervisor")) if self.current.live else None


@dataclass(frozen=True, slots=True)
class _Found:
    vital: Vital
    since: float
    message: str = ""


def _over(look: _Look) -> _Found | None:
    if look.current.going:
        return None
    if look.current.status is Status.LOST:
        message = "its supervisor died without a word, and nothing of it runs"
        return _Found(Vital.DEAD, max(look.supervised, look.at("time")), message)
    return _Found(Vital.RESTS, float(look.current.state.get("ended") or 0.0))


def _frozen(look: _Look) -> _Found | None:
    processes = (
        ("the training", look.trainer, look.at("time")),
        ("its supervisor", look.supervisor, look.supervised),
    )
    for who, identity, since in processes:
        if identity and _is_stopped(identity):
            pid = identity.pid
            message = f"{who} (process {pid}) is stopped by a signal; `kill -CONT {pid}` lets it go on"
            return _Found(Vital.FROZEN, since, message)
    return None


def _unsupervised(look: _Look) -> _Found | None:
    silent = look.now - look.supervised
    if not look.current.live or silent <= SUPERVISOR_SILENT_AFTER:
        return None
    return _Found(Vital.SILENT, look.supervised, silence("its supervisor", silent) + _full(look.run))


def _starting(look: _Look) -> _Found | None:
    if look.beat:
        return None
    if look.run.trains() != look.run:
        # A later machine's training beats in the run's own directory, by the clock of the first one.
        return _Found(Vital.WELL, look.started)
    waited = look.now - look.started
    if waited > STARTS_WITHIN:
        return _Found(Vital.SILENT, look.started, silence("the training since its start,", waited))
    return _Found(Vital.STARTING, look.started)


def _ending(look: _Look) -> _Found | None:
    gone = look.trainer is not None and not look.trainer.alive and look.now - look.at("time") > GONE_AFTER
    if not gone or not look.current.live:
        return None
    ended = "has ended" if read_outcome(look.run) else "died"
    return _Found(Vital.ENDING, look.at("time"), f"the training {ended}; its supervisor ends what is left of it")


def _silent(look: _Look) -> _Found | None:
    silent = look.now - look.at("time")
    if silent <= SILENT_AFTER:
        return None
    words = silence("the training", silent, str(look.beat.get("phase", ""))) + _full(look.run)
    return _Found(Vital.SILENT, look.at("time"), words if look.current.live else f"its supervisor died; {words}")


def _stands(look: _Look) -> _Found | None:
    standing = look.now - look.progressed
    if standing <= stands_after(look.at("pace")):
        return None
    return _Found(Vital.STANDS, look.progressed, standstill(standing, str(look.beat.get("phase", ""))))


def _orphaned(look: _Look) -> _Found | None:
    if not look.current.orphans:
        return None
    return _Found(Vital.ORPHANED, look.progressed, "its supervisor died; the training ends after its step")


_CHECKS: tuple[Callable[[_Look], _Found | None], ...] = (
    _over,
    _frozen,
    _unsupervised,
    _starting,
    _ending,
    _silent,
    _stands,
    _orphaned,
)
"""In this order: what a later one would say follows from what an earlier one found."""


def stands_after(pace: float) -> float:
    """Seconds in one place after which it is told.

    Args:
        pace: the longest that it took between two signs of progress in its phase, in seconds; 0 where it gave none.
    """
    return max(STANDS_AFTER, TIMES_ITS_PACE * pace) if pace else STANDSTILL


def silence(who: str, seconds: float, phase: str = "") -> str:
    """In words."""
    return f"no sign of life from {who} for {_time(seconds)}{f', in phase {phase}' if phase else ''}"


def standstill(seconds: float, phase: str) -> str:
    """In words."""
    return f"no progress for {_time(seconds)} in phase {phase}"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _full(run: RunDirectory) -> str:
    try:
        full = shutil.disk_usage(run.path).free < FULL
    except OSError:
        return ""
    return f"; the disk of {run.path} is full, so it cannot write one" if full else ""


def _is_stopped(identity: ProcessIdentity) -> bool:
    """Whether a signal has stopped it; a debugger's stop is another state."""
    try:
        return identity.alive and psutil.Process(identity.pid).status() == psutil.STATUS_STOPPED
    except psutil.Error:
        return False
