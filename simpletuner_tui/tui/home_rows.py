"""What is listed at home: what a walk can begin from, the runs there are, and saved set-ups."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeAlias

from launcher.runs.index import known_runs
from launcher.runs.state import Status
from simpletuner_tui.run_rows import RunRow, run_rows
from simpletuner_tui.setups import SetUpFile, known_setups
from simpletuner_tui.starting import Start
from simpletuner_tui.text import printable, table
from simpletuner_tui.tui.glyphs import Glyphs

SHOWN = 5
"""Runs that are over, and set-ups, that are listed before somebody asks for all."""
RUNS, SETUPS = "Runs", "Set-ups"
RESUMABLE = (Status.STOPPED, Status.FAILED, Status.LOST)
"""What a run is that can be continued from its newest checkpoint."""


@dataclass(frozen=True, slots=True)
class More:
    """A row that stands for those that are not listed yet."""

    of: str


Holds: TypeAlias = Start | RunRow | SetUpFile | More | None


@dataclass(frozen=True, slots=True)
class HomeRow:
    """A row, and what it is of; a heading is of nothing."""

    key: str
    text: str
    holds: Holds = None


@dataclass(frozen=True, slots=True)
class Shelf:
    """What was found to be there."""

    runs: tuple[RunRow, ...] = ()
    """Those that go on first, then the newest."""
    setups: tuple[SetUpFile, ...] = ()
    """The newest first."""

    @property
    def going(self) -> tuple[RunRow, ...]:
        """Runs that go on."""
        return tuple(row for row in self.runs if row.now.going)


def read_shelf() -> Shelf:
    """Looks at every run and set-up there is; may take its time."""
    runs = run_rows(known_runs()[::-1])
    return Shelf(tuple(sorted(runs, key=lambda row: not row.now.going)), tuple(known_setups()))


def home_rows(
    starts: Sequence[Start], shelf: Shelf | None, whole: frozenset[str], glyphs: Glyphs, now: float
) -> list[HomeRow]:
    """The rows from top to bottom.

    Args:
        starts: what a walk can begin from.
        shelf: what else there is; None: not known yet.
        whole: which lists are shown to their end.
        glyphs: signs this terminal can show.
        now: seconds since the epoch.
    """
    rows = [HomeRow("", "Begin")]
    texts = table((start.title, start.details) for start in starts)
    rows += [HomeRow(f"start {start.title}", text, start) for start, text in zip(starts, texts, strict=True)]
    if shelf is None:
        return rows
    if shelf.runs:
        shown = shelf.runs if RUNS in whole else shelf.runs[: max(SHOWN, len(shelf.going))]
        texts = table(_cells(row, glyphs, now) for row in shown)
        rows.append(HomeRow("", RUNS))
        rows += [HomeRow(f"run {row.run.path}", text, row) for row, text in zip(shown, texts, strict=True)]
        rows += _more(RUNS, "run", len(shelf.runs) - len(shown), glyphs)
    if shelf.setups:
        setups = shelf.setups if SETUPS in whole else shelf.setups[:SHOWN]
        texts = table((when(each.saved, now), from_home(each.path)) for each in setups)
        rows.append(HomeRow("", SETUPS))
        rows += [HomeRow(f"set-up {each.path}", text, each) for each, text in zip(setups, texts, strict=True)]
        rows += _more(SETUPS, "set-up", len(shelf.setups) - len(setups), glyphs)
    return rows


def _more(of: str, one: str, count: int, glyphs: Glyphs) -> list[HomeRow]:
    if not count:
        return []
    return [HomeRow(f"more {of}", f"{glyphs.ellipsis} {count} older {one}{'s' if count > 1 else ''}", More(of))]


def _cells(row: RunRow, glyphs: Glyphs, now: float) -> tuple[str, ...]:
    started = "" if row.started is None else when(row.started, now)
    return f"{_sign(row, glyphs)} {row.told}", printable(row.run.name), _place(row), started


def _place(row: RunRow) -> str:
    """Where it is, or came to."""
    if row.now.going:
        return f"{row.phase} {row.step}".strip() if row.phase == "train" else row.phase
    return f"step {row.step}" if row.step else ""


def _sign(row: RunRow, glyphs: Glyphs) -> str:
    if row.now.going:
        return glyphs.here
    if row.now.failed:
        return glyphs.fault
    return glyphs.done if row.now.status is Status.COMPLETED else glyphs.ahead


def when(seconds: float, at: float) -> str:
    """A moment that is over, as short as it can be told: today's by its time, others by their day.

    Args:
        seconds: the moment, since the epoch.
        at: now.
    """
    then, now = datetime.fromtimestamp(seconds), datetime.fromtimestamp(at)
    if then.date() == now.date():
        return f"{then:%H:%M}"
    return f"{then:%d %b}" if then.year == now.year else f"{then:%b %Y}"


def from_home(path: Path) -> str:
    """A path as a shell would be told it, the home folder as ``~``."""
    try:
        return printable(f"~/{path.relative_to(Path.home())}")
    except (ValueError, RuntimeError):  # elsewhere, or nobody's home
        return printable(str(path))


def may_resume(row: RunRow) -> bool:
    """Whether a run is one that a checkpoint could continue."""
    return row.now.status in RESUMABLE and not row.now.going and not row.rehearsal
