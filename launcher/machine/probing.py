"""A fact that needs torch, asked of a process: ``python -m launcher.probes.NAME``, whose stdout is one JSON object."""

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PATIENCE = 3.0
"""Seconds that a probe which is stopped gets to leave by itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe found out, or why it found out nothing."""

    told: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    """The probe's last words, or how it ended; empty: it answered."""
    signal: str = ""
    """The signal that ended it, such as ``SIGILL``."""


class Probe:
    """A probe that is under way."""

    def __init__(self, name: str, *arguments: str) -> None:
        """Starts it.

        Args:
            name: of its module in ``launcher.probes``.
            arguments: of its command line.
        """
        # Files, for as long as the probe: a pipe that nobody reads would stop it.
        self._out, self._said = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"launcher.probes.{name}", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._said,
        )

    @property
    def ended(self) -> bool:
        """Whether :meth:`answer` is there."""
        return self._process.poll() is not None

    def answer(self) -> Answer:
        """What it answered, once it has ended."""
        code = self._process.wait()
        texts = []
        for stream in (self._out, self._said):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
            stream.close()
        if code < 0:
            name = signal.Signals(-code).name
            return Answer(failure=f"it was ended by {name}", signal=name)
        if code == 0:
            with contextlib.suppress(ValueError):
                read = json.loads(texts[0])
                if isinstance(read, dict):
                    return Answer(read)
        return Answer(failure=last_words(texts[1]))

    def stop(self) -> None:
        """Ends it."""
        end(self._process)
        self._out.close()
        self._said.close()


def last_words(said: str) -> str:
    """The last line that says anything."""
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "it said nothing")


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process: it is asked first, and not for long."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)
    process.kill()
    process.wait()
