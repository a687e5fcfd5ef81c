"""What a run tells: events for the run directory, phases for progress, a heartbeat for the supervisor."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import psutil

from launcher.runs.events import EventLog
from launcher.runs.heartbeat import Heartbeat
from launcher.train.memory import MIB, Held, MemoryMeter

LOGGER = logging.getLogger("launcher.train")
PROGRESS_INTERVAL = 0.5
"""Seconds between two progress events of a phase: enough for a bar, too few to fill the log."""


class Phase:
    """A phase under way."""

    def __init__(self, report: "Report", name: str) -> None:
        self._report, self._name = report, name
        self._told = 0.0
        self._first: tuple[float, float] | None = None
        """When it was told of first, and how far it was."""

    def progress(self, done: float, total: float) -> None:
        """Tells how far it is, in any unit, at most twice a second."""
        self._report.beat(self._name, int(done))
        now = time.monotonic()
        self._first = self._first or (now, done)
        if now - self._told >= PROGRESS_INTERVAL or done >= total:
            self._told = now
            left = self._seconds_left(now, done, total)
            self._report.event("phase", phase=self._name, state="progress", done=done, total=total, seconds_left=left)

    def _seconds_left(self, now: float, done: float, total: float) -> float | None:
        """At the speed so far; None before there is one."""
        assert self._first is not None
        began, first = self._first
        return round((now - began) / (done - first) * (total - done), 1) if done > first else None


class Report:
    """Reports of one rank. Only rank 0 is given a log and a heartbeat; the others' events go nowhere."""

    def __init__(self, events: EventLog | None = None, heartbeat: Heartbeat | None = None) -> None:
        self._events, self._heartbeat = events, heartbeat
        self._followers: list[Callable[[str, dict[str, Any]], None]] = []
        self.meter: MemoryMeter | None = None
        """Of this rank's GPU; set once it is known."""
        self.under_way: list[str] = []
        """Names of the phases, the outermost first; where one fails, its name stays."""
        self.peaks: dict[str, Held] = {}
        """Of this rank's GPU, by the phases that are over."""

    def add_follower(self, follower: Callable[[str, dict[str, Any]], None]) -> None:
        """Tells every further event, its name and fields, to someone else too; it must not raise."""
        self._followers.append(follower)

    def event(self, name: str, **fields: Any) -> None:
        """Appends an event."""
        if self._events is not None:
            self._events.emit(name, **fields)
        for follower in self._followers:
            follower(name, fields)

    def warning(self, message: str) -> None:
        """Something the person should know that does not end the run."""
        LOGGER.warning("%s", message)
        self.event("warning", message=message)

    def beat(self, phase: str, done: int | None = None) -> None:
        """Tells the supervisor that it got on, and how far it is in the phase."""
        if self._heartbeat is not None:
            self._heartbeat.progress(phase, done)

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """A named part of the run, with its duration, the GPU memory at its peak and the host memory at its end."""
        started = time.monotonic()
        LOGGER.info("phase %s", name)
        self.beat(name)
        self.event("phase", phase=name, state="start")
        self.under_way.append(name)
        meter = self.meter
        if meter:
            meter.begin()
        yield Phase(self, name)
        self.under_way.pop()
        if self.under_way:
            self.beat(self.under_way[-1])
        fields: dict[str, Any] = {"rss_mib": psutil.Process().memory_info().rss // MIB}
        if meter:
            peak = meter.end()
            self.peaks[name] = peak.or_more(self.peaks.get(name, Held()))
            fields["vram_mib"] = asdict(peak)
        self.event("phase", phase=name, state="end", seconds=round(time.monotonic() - started, 3), **fields)
