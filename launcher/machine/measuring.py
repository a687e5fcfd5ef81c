"""Measuring this machine, which a person asks for: the probe as a process of its own, whose figures are kept."""

import shlex
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO

from launcher.errors import CannotRunHereError, ExitCode, RunFailedError
from launcher.machine.bandwidths import Bandwidths, Hardware, bandwidths_file, known
from launcher.machine.host import read_host
from launcher.machine.probing import end, last_words

PROBE = (sys.executable, "-m", "launcher.probes.bandwidths")
"""It takes the file to write, ``--threads`` and ``--nvme``."""


@dataclass(frozen=True, slots=True)
class ToMeasure:
    """What the seconds of a step wait for."""

    hardware: Hardware
    """Of this machine."""
    nvme: str = ""
    """A folder whose drive has to be among it; empty: none has to."""

    @property
    def command(self) -> str:
        """What a person types to have it measured."""
        threads = "" if self.hardware.threads == read_host().cores else f" --threads {self.hardware.threads}"
        return f"simpletuner-tui measure{threads}{f' --nvme {shlex.quote(self.nvme)}' if self.nvme else ''}"


class Measuring:
    """A probe that is under way."""

    def __init__(self, process: "subprocess.Popen[bytes]", wanted: ToMeasure, said: IO[bytes]) -> None:
        self._process, self._wanted, self._said = process, wanted, said

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether :meth:`result` is there."""
        return self._process.poll() is not None

    def result(self) -> Bandwidths:
        """What it measured, once it has ended.

        Raises:
            CannotRunHereError: this machine, its GPU or the folder cannot be measured now.
            RunFailedError: it failed, or was ended by somebody.
        """
        code = self._process.wait()
        self._said.seek(0)
        last = last_words(self._said.read().decode("utf-8", "replace"))
        self._said.close()
        if code == ExitCode.CANNOT_RUN_HERE:
            raise CannotRunHereError(last)
        if code < 0:
            raise RunFailedError(f"the probe was ended by {signal.Signals(-code).name} before it had measured anything")
        found = known(self._wanted.hardware)
        if code or found is None:
            raise RunFailedError(f"this machine could not be measured: {last}")
        return found

    def stop(self) -> None:
        """Ends it; nothing of it stays."""
        end(self._process)
        self._said.close()


def begin(wanted: ToMeasure) -> Measuring:
    """Begins to measure this machine, whatever is known of it.

    Raises:
        CannotRunHereError: its figures could not be kept.
    """
    file = bandwidths_file(wanted.hardware)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRunHereError(
            f"{file.parent} cannot be written: {error.strerror}; set XDG_CACHE_HOME to a folder that can"
        ) from error
    options = ["--threads", str(wanted.hardware.threads), *(["--nvme", wanted.nvme] if wanted.nvme else [])]
    said = tempfile.TemporaryFile()  # noqa: SIM115 - for as long as the probe; a pipe that nobody reads would stop it
    process = subprocess.Popen([*PROBE, str(file), *options], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    return Measuring(process, wanted, said)
