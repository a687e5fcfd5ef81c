"""Rank 0's sign of life, and its eye on the supervisor."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from launcher.runs.directory import RunDirectory, read_json, write_atomic
from launcher.runs.processes import ProcessIdentity

INTERVAL = 1.0
"""Seconds between two beats."""

SUPERVISOR_VARIABLE = "SIMPLETUNER_SUPERVISOR"
"""pid, start time and host of the supervisor, as ``pid:started:host``."""


class Heartbeat:
    """Writes heartbeat.json from a thread, so that a long save or a compiler does not look like death.

    ``progressed`` in the file is when the main thread last got on, ``pace`` the longest that took so far within its
    phase; ``time`` is when the process last lived.
    """

    def __init__(self, run: RunDirectory, on_orphaned: Callable[[], None]) -> None:
        """Starts on entering.

        Args:
            run: gets the heartbeat.
            on_orphaned: called once, from the thread, when the supervisor is gone.
        """
        self._run, self._on_orphaned = run, on_orphaned
        self._phase, self._progressed = "start", time.time()
        self._step: int | None = None
        self._paces: dict[str, float] = {}
        self._supervisor = supervisor_of_this_process()
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def progress(self, phase: str, done: int | None = None) -> None:
        """The main thread got on.

        Args:
            phase: the one it is in.
            done: how far it is in that, where it tells: of ``train``, steps; these stand in the heartbeat from then on.
        """
        now = time.time()
        if done is not None and phase == self._phase:
            self._paces[phase] = max(self._paces.get(phase, 0.0), now - self._progressed)
        if done is not None and phase == "train":
            self._step = done
        self._phase, self._progressed = phase, now

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving.set()
        self._thread.join()

    def _beat(self) -> None:
        orphaned = False
        who = {**ProcessIdentity.of(os.getpid()).to_json(), "host": socket.gethostname()}
        while True:
            leaving = self._leaving.is_set()  # asked first: the last beat tells how far it came
            beat = {
                "time": time.time(),
                **who,
                "phase": self._phase,
                "step": self._step,
                "progressed": self._progressed,
                "pace": self._paces.get(self._phase, 0.0),
            }
            with contextlib.suppress(OSError):  # a full disk must not end a run that could finish its step
                write_atomic(self._run.heartbeat_json, json.dumps(beat).encode(), durable=False)
            if not orphaned and self._supervisor is not None and not self._supervisor.alive:
                orphaned = True
                self._on_orphaned()
            if leaving:
                return
            self._leaving.wait(INTERVAL)


def supervisor_of_this_process() -> ProcessIdentity | None:
    """Who supervises the run that this process trains; None where it cannot be seen from here."""
    pid, started, host = [*os.environ.get(SUPERVISOR_VARIABLE, "").split(":", 2), "", ""][:3]
    if host and host != socket.gethostname():  # started over SSH from another machine, whose processes are not seen
        return None
    return ProcessIdentity.from_json({"pid": pid, "started": started})


def read_heartbeat(run: RunDirectory) -> dict[str, object] | None:
    """The last beat, if there was one."""
    return read_json(run.heartbeat_json)
