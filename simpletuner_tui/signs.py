"""Signs of life of a run that is looked at: what is wrong with one that should get on."""

import time
from collections.abc import Callable

from launcher.runs.diagnosis import diagnose_hang
from launcher.runs.directory import RunDirectory
from launcher.runs.state import RunStatus
from launcher.runs.vitality import Vital, Vitality, vitality

LOOK = 5.0
"""Seconds between two looks at what a run that stands may wait for; each asks every process."""


class Signs:
    """Of one run."""

    def __init__(self, run: RunDirectory, clock: Callable[[], float] = time.time) -> None:
        """Nothing is looked at yet.

        Args:
            run: whose.
            clock: seconds since the epoch.
        """
        self._run, self._clock = run, clock
        self._hang = ""
        self._look_again = 0.0
        self._told, self._told_hang = Vital.WELL, ""
        self._missed = False

    def unwell(self, current: RunStatus) -> str:
        """What is wrong with it now; empty where nothing is, or nothing of it runs."""
        if not current.going:
            return ""
        vital = self._look(current)
        return self._hang or (vital.message if vital.ill else "")

    def lines(self, current: RunStatus) -> list[str]:
        """What is new to say, once when signs are missed and once when they are back.

        Nothing of a run that no supervisor holds, as its end is told otherwise.
        """
        if not current.live:
            return []
        vital = self._look(current)
        return [*self._of_life(vital), *self._of_a_hang()]

    def _look(self, current: RunStatus) -> Vitality:
        vital = vitality(self._run, self._clock(), current)
        if time.monotonic() >= self._look_again:
            self._look_again = time.monotonic() + LOOK
            self._hang = str(diagnose_hang(self._run, vital) or "")
        return vital

    def _of_life(self, vital: Vitality) -> list[str]:
        if vital.vital is self._told:
            return []
        self._told, missed_before = vital.vital, self._missed
        self._missed = vital.ill
        if vital.ill:
            return [f"warning: {vital.message}"]
        return [f"{self._run.name} goes on"] if missed_before else []

    def _of_a_hang(self) -> list[str]:
        said, self._told_hang = self._told_hang, self._hang
        return [f"warning: {self._hang}"] if self._hang and self._hang != said else []
