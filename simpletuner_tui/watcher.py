"""Looking at a run again and again: each look brings what is new. Files are all it needs, so any number may look."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.runs.directory import RunDirectory, read_json
from launcher.runs.events import Skim, read_events
from launcher.runs.readings import Header, read_course, read_header, read_rows
from launcher.runs.state import RunStatus, Status, lock_is_held, status
from simpletuner_tui.follow import AT_ONCE
from simpletuner_tui.series import CAPACITY
from simpletuner_tui.signs import Signs
from simpletuner_tui.text import printable

LOG_BEGINS = 2**20
"""Bytes of the log, from its end, that a first look brings."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is new since the look before."""

    status: RunStatus | None
    """None where the run directory cannot be read."""
    events: Sequence[dict[str, Any]] = ()
    header: Header | None = None
    rows: Sequence[Sequence[float]] = ()
    """Of the readings, by the header's columns."""
    log: Sequence[str] = ()
    """Lines of it."""
    unwell: str = ""
    """What is wrong with a run that should get on, or why its directory cannot be read."""


@dataclass(slots=True)
class Watcher:
    """Knows how far a run was read. Looks may take their time, so they belong in a thread; one at a time."""

    run: RunDirectory
    clock: Callable[[], float] = time.time
    """Seconds since the epoch."""
    _offset: int | None = None
    """In the events; None: nothing was read yet."""
    _header: Header | None = None
    _row: int = 0
    _lost: RunStatus | None = None
    _log: "LogTail" = field(init=False)
    _signs: Signs = field(init=False)

    def __post_init__(self) -> None:
        self._log, self._signs = LogTail(self.run.log), Signs(self.run, self.clock)

    def look(self) -> Look:
        """What is new; never raises for what a disk does."""
        try:
            os.stat(self.run.plan_json)  # noqa: PTH116 - a run directory that went away is one, however little is new
            now = self._status()  # asked first: what it tells of its end is then read below
            return Look(now, self._events(), *self._readings(), self._log.read(), self._signs.unwell(now))
        except OSError as error:
            return Look(None, unwell=f"its directory cannot be read ({error.strerror})")

    def _status(self) -> RunStatus:
        """What it is; of one that is lost it is not asked again which processes there are, of which none is its."""
        before = self._lost
        if before is not None and not lock_is_held(self.run) and read_json(self.run.state_json) == before.state:
            return before
        now = status(self.run)
        self._lost = now if now.status is Status.LOST and not now.orphans else None
        return now

    def _events(self) -> list[dict[str, Any]]:
        path = self.run.events_jsonl
        if self._offset is None:
            skim = Skim(path)
            events = list(skim)
            self._offset = skim.offset
        else:
            events, self._offset = read_events(path, self._offset, AT_ONCE)
        return events

    def _readings(self) -> tuple[Header | None, Sequence[Sequence[float]]]:
        header = read_header(self.run.readings)
        if header is None:
            return None, ()
        width = len(header.columns)
        if header != self._header:
            self._header = header
            rows, self._row = read_course(self.run.readings, width, CAPACITY)
            return header, rows
        new = list(read_rows(self.run.readings, width, self._row))
        self._row += len(new)
        return header, new


class LogTail:
    """The lines of a log from somewhere near its end on, as they come."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: int | None = None
        self._rest = b""

    def read(self) -> list[str]:
        """Whole lines that were written since; a line that was drawn over and over, as a bar is, as it is last."""
        try:
            with self._path.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                begin = max(0, size - LOG_BEGINS) if self._offset is None else self._offset
                cut = self._offset is None and begin > 0
                log.seek(begin)
                content = self._rest + log.read(max(0, size - begin))
        except FileNotFoundError:
            return []
        self._offset = size
        *lines, self._rest = content.split(b"\n")
        return [_shown(line) for line in lines[1 if cut else 0 :]]


def _shown(line: bytes) -> str:
    last = line.rstrip(b"\r").rpartition(b"\r")[2]
    return printable(last.decode("utf-8", "replace").expandtabs(4))
