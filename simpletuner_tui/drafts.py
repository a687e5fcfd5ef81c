"""The unsaved answers of a walk, kept at every step, so that a dropped line costs nothing."""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from launcher.runs.directory import read_json, write_atomic


@dataclass(frozen=True, slots=True)
class Draft:
    """Answers given so far, and where the walk was."""

    answers: Mapping[str, object]
    place: str
    """Id of the question that was open; empty at the end of the walk."""
    base: Path
    """The folder that relative paths count from."""
    saved: float
    """Seconds since the epoch."""

    @property
    def when(self) -> str:
        """When it was kept; empty where a damaged file names a time that never was."""
        with contextlib.suppress(OverflowError, ValueError, OSError):
            return f"{datetime.fromtimestamp(self.saved):%d %b %H:%M}"
        return ""


class Drafts:
    """The one draft that a person has of a kind of file, on a machine."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet.

        Args:
            path: of the draft.
        """
        self.path = path
        self._settled: Mapping[str, object] = {}

    def keep(self, answers: Mapping[str, object], place: str) -> None:
        """Replaces the draft, unless nothing was answered since :meth:`settle` or :meth:`drop`.

        A disk that refuses costs the draft, never the walk.
        """
        if answers == self._settled:
            return
        content = {"answers": dict(answers), "place": place, "base": str(Path.cwd()), "saved": time.time()}
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path, json.dumps(content, indent=1).encode())

    def read(self) -> Draft | None:
        """The draft, if there is one that can be read."""
        try:
            content = read_json(self.path) or {}
        except (OSError, RecursionError):
            return None
        answers, saved = content.get("answers"), content.get("saved")
        if not isinstance(answers, dict) or not answers:
            return None
        place, base = str(content.get("place", "")), Path(str(content.get("base", os.curdir)))
        return Draft(answers, place, base, saved if isinstance(saved, float) else 0.0)

    def settle(self, answers: Mapping[str, object]) -> None:
        """Answers that need no draft: they stand in a file."""
        self._settled = dict(answers)

    def drop(self, answers: Mapping[str, object]) -> None:
        """Forgets it.

        Args:
            answers: what was saved or launched, and needs no draft any more.
        """
        self.settle(answers)
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
