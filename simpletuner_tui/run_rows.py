"""Runs as they are listed: by `runs`, and at home."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.runs.directory import RunDirectory
from launcher.runs.rehearsal import rehearsal_of
from launcher.runs.state import RunStatus, statuses
from launcher.runs.vitality import Vitality, vitality
from simpletuner_tui.text import duration


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run, and what it is now."""

    run: RunDirectory
    now: RunStatus
    vital: Vitality
    rehearsal: bool

    @property
    def ill(self) -> bool:
        """Whether it should get on and does not."""
        return self.vital.ill and self.now.live

    @property
    def told(self) -> str:
        """What it is, in words."""
        shown = f"{self.now.status}, still training" if self.now.orphans else str(self.now.status)
        if self.ill:
            shown += f", {self.vital.vital} for {duration(self.vital.seconds)}"
        return f"{shown}, rehearsal" if self.rehearsal else shown

    @property
    def phase(self) -> str:
        """As the supervisor calls it; empty before the start."""
        return str(self.now.state.get("phase", ""))

    @property
    def step(self) -> str:
        """The last that was trained; empty before the first."""
        step = self.now.state.get("step")
        return "" if step is None else str(step)

    @property
    def started(self) -> float | None:
        """Seconds since the epoch."""
        started = self.now.state.get("started")
        return float(started) if isinstance(started, int | float) else None


def run_rows(runs: Sequence[RunDirectory]) -> list[RunRow]:
    """What runs are now, in their order."""
    at = time.time()
    return [
        RunRow(run, now, vitality(run, at, now), rehearsal_of(run) is not None)
        for run, now in zip(runs, statuses(runs), strict=True)
    ]
