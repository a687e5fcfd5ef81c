"""A thread that looks at the machine again and again, so that nobody who asks has to wait for a driver."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from launcher.machine.reader import SampleReader
from launcher.machine.sample import Sample

INTERVAL = 1.0
"""Seconds from one look to the next."""
KEPT = 120.0
"""Seconds that samples are kept for."""
PATIENCE = 0.5
"""Seconds that whoever stops the thread waits for a look under way."""


class Samples(Protocol):
    """What the machine showed, for screens: nothing here waits."""

    @property
    def latest(self) -> Sample | None:
        """The newest; None before the first."""

    @property
    def recent(self) -> Sequence[Sample]:
        """Those of the last two minutes, the oldest first."""

    @property
    def age(self) -> float:
        """Seconds since the newest was taken, or since the beginning: many, where a driver hangs."""

    @property
    def fault(self) -> str:
        """Why the last look brought nothing; empty where it did."""


class Sampler:
    """Takes samples in a thread of its own, which ends with the process."""

    def __init__(
        self,
        read: SampleReader,
        *,
        interval: float = INTERVAL,
        then: Callable[[Sample], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is looked at before the start.

        Args:
            read: looks at the machine, in the thread.
            interval: seconds from one look to the next; a look that takes longer is followed by the next at once.
            then: is given each sample, in the thread.
            clock: seconds.
        """
        self._read, self._interval, self._then, self._clock = read, interval, then, clock
        self._recent: tuple[Sample, ...] = ()
        self._fault = ""
        self._taken = clock()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    @property
    def latest(self) -> Sample | None:
        """The newest; None before the first."""
        return self._recent[-1] if self._recent else None

    @property
    def recent(self) -> Sequence[Sample]:
        """Those of the last two minutes, the oldest first."""
        return self._recent

    @property
    def age(self) -> float:
        """Seconds since the newest was taken, or since the beginning: many, where a driver hangs."""
        return self._clock() - self._taken

    @property
    def fault(self) -> str:
        """Why the last look brought nothing; empty where it did."""
        return self._fault

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Takes no more samples. One that a driver holds up is not waited for."""
        self._leaving.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def look(self) -> None:
        """Takes a sample now."""
        try:
            sample = self._read()
            # A new tuple each time: whoever holds the old one may go through it meanwhile.
            self._recent = (*self._recent[1 - round(KEPT / self._interval) :], sample)
            self._taken, self._fault = self._clock(), ""
            if self._then is not None and not self._leaving.is_set():
                self._then(sample)
        except Exception as error:  # the next look may do better, and whoever looks on sees why this one did not
            self._fault = f"{type(error).__name__}: {error}"

    def _run(self) -> None:
        due = self._clock()
        while not self._leaving.is_set():
            self.look()
            due = max(due + self._interval, self._clock())
            self._leaving.wait(due - self._clock())
