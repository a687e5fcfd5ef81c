"""Signs of life of a run that is followed, in lines: said once when they are missed, and once when they are back."""

import time

from launcher.runs.diagnosis import diagnose_hang
from launcher.runs.directory import RunDirectory
from launcher.runs.state import RunStatus
from launcher.runs.vitality import Vital, Vitality, vitality

LOOK = 5.0
"""Seconds between two looks at what a run that stands may wait for; each asks every process."""


class Signs:
    """Of one run."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._told = Vital.WELL
        self._missed = False
        self._hang = ""
        self._looked = 0.0

    def lines(self, current: RunStatus) -> list[str]:
        """What is new to say; nothing of a run that no supervisor holds, as its end is told otherwise."""
        if not current.live:
            return []
        vital = vitality(self._run, time.time(), current)
        return [*self._of_life(vital), *self._of_a_hang(vital)]

    def _of_life(self, vital: Vitality) -> list[str]:
        if vital.vital is self._told:
            return []
        self._told, missed_before = vital.vital, self._missed
        self._missed = vital.ill
        if vital.ill:
            return [f"warning: {vital.message}"]
        return [f"{self._run.name} goes on"] if missed_before else []

    def _of_a_hang(self, vital: Vitality) -> list[str]:
        now = time.monotonic()
        if now - self._looked < LOOK:
            return []
        self._looked = now
        hang = str(diagnose_hang(self._run, vital) or "")
        said, self._hang = self._hang, hang
        return [f"warning: {hang}"] if hang and hang != said else []
