"""events.jsonl: what happened, one JSON object a line, appended whole."""

import json
import math
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHORT = 16 * 2**20
"""Bytes of a file that is read whole; a run of a million steps tells 600 MB and more."""
CHUNK = 4 * 2**20
"""Bytes of a longer one that are read at once."""
SAMPLES = 8_000
"""Steps that are read of a longer one, about: several for each column of any terminal."""
HEAD = 128
"""Bytes at the beginning of a line that hold its kind."""
START = b'"event": "start"'
STEP, PROGRESS = b'"event": "step"', b'"state": "progress"'
"""What there is much of, as it stands in a line."""
SELDOM = re.compile(rb'"event": "(?!step")(?!phase", "phase": "\w*", "state": "progress")')


class EventLog:
    """Appends events. Each line is one write, so several processes may append to the same file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def emit(self, event: str, **fields: Any) -> None:
        """Appends an event with the time in seconds since the epoch."""
        record = {"time": round(time.time(), 3), "event": event, **fields}
        line = json.dumps(_finite(record), ensure_ascii=False, default=str) + "\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode("utf-8", "replace"))
        finally:
            os.close(handle)


def read_events(path: Path, offset: int = 0, limit: int = -1) -> tuple[list[dict[str, Any]], int]:
    """Events from a byte offset on, and the offset to go on from.

    A line that is still being written is left for the next call; one that is no JSON object is skipped.

    Args:
        path: of the events.
        offset: where to begin.
        limit: bytes that are read at most, more than any line has; all there are by default.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read(limit)
    except FileNotFoundError:
        return [], offset
    whole = content[: content.rfind(b"\n") + 1]
    return [record for line in whole.splitlines() if (record := _record(line)) is not None], offset + len(whole)


def last_start(path: Path) -> int:
    """Where the events of the latest launch begin, in bytes; looked for from the end. 0 where there is none."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                begin = max(0, end - CHUNK)
                file.seek(begin)
                chunk = file.read(end - begin + HEAD)  # what two chunks share is whole in one of them
                found = chunk.rfind(START)
                line = chunk.rfind(b"\n", 0, max(found, 0))
                if found >= 0 and (line >= 0 or begin == 0):
                    return begin + line + 1
                end = begin
    except FileNotFoundError:
        pass
    return 0


class Skim:
    """Reads a file of any length in a moment: whole where it is short, else all that is seldom and some of the rest.

    Iterating gives events in their order, the last step and the last progress among them; ``offset`` is where
    :func:`read_events` goes on.
    """

    def __init__(self, path: Path) -> None:
        """Reads nothing yet.

        Args:
            path: of the events.
        """
        self._path = path
        self.offset = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return
        if size <= SHORT:
            events, self.offset = read_events(self._path)
            yield from events
            return
        samples = max(2, SAMPLES * CHUNK // size)
        with self._path.open("rb") as file:
            rest = b""
            while chunk := file.read(CHUNK):
                chunk = rest + chunk
                end = chunk.rfind(b"\n") + 1
                last = self.offset + len(chunk) >= size
                yield from _some(chunk, end, samples, last=last)
                rest = chunk[end:]
                self.offset += end


def _some(chunk: bytes, end: int, samples: int, *, last: bool) -> Iterator[dict[str, Any]]:
    """Events of whole lines: all seldom ones, steps at so many places, at the end the last of what there is much of."""
    places = {found.start() for found in SELDOM.finditer(chunk, 0, end)}
    places |= {chunk.find(STEP, place, end) for place in range(0, end, max(1, end // samples))}
    if last:
        places |= {chunk.rfind(frequent, 0, end) for frequent in (STEP, PROGRESS)}
    for place in sorted({chunk.rfind(b"\n", 0, place) + 1 for place in places if place >= 0}):
        if (record := _record(chunk[place : chunk.find(b"\n", place)])) is not None:
            yield record


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _finite(value: Any) -> Any:
    """NaN and infinities as text: JSON has no numbers for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
