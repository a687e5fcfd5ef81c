"""``python -m launcher.probes.bandwidths [OUT]``: how fast this machine moves and computes, in some 25 seconds.

OUT becomes the JSON of :class:`launcher.machine.bandwidths.Bandwidths`. Without OUT it is printed, and kept where the
interface looks for it. Without a GPU, ``gpu`` is null; without ``--nvme FOLDER``, ``drive`` is. The machine should have
nothing else to do meanwhile: what runs beside takes its share of the figures.
"""

import argparse
import errno
import hashlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from launcher.errors import CannotRunHereError, LauncherError
from launcher.machine.bandwidths import Bandwidths, bandwidths_file, known, this_hardware
from launcher.machine.host import read_host
from launcher.probes.bandwidths.drive import drive_speed
from launcher.probes.surroundings import compile_as_a_run_does, stdout_to_stderr
from launcher.runs.directory import write_atomic

ELEMENTS = 100_000_000
"""Of the tensors that the CPU works on: 400 MB in fp32, which no cache holds."""


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m launcher.probes.bandwidths", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", help="the file to write")
    parser.add_argument("--threads", type=int, default=read_host().cores, help="of all processes of a run together")
    parser.add_argument("--nvme", type=Path, metavar="FOLDER", help="also measure the drive below this folder")
    parser.add_argument("--elements", type=int, default=ELEMENTS, help="of the tensors that the CPU works on")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)  # before torch comes: OpenMP reads it once
    compile_as_a_run_does()
    try:
        nvme = arguments.nvme and arguments.nvme.absolute()
        with _alone(), stdout_to_stderr():
            measured = _measure(arguments.threads, nvme, arguments.elements)
            if nvme is None and (before := known(measured.hardware)):
                measured = replace(measured, drive=before.drive)
    except LauncherError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return int(error.exit_code)
    if arguments.out:
        write_atomic(arguments.out, measured.to_bytes())
        return 0
    file = bandwidths_file(measured.hardware)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(file, measured.to_bytes())
    sys.stdout.write(measured.to_bytes().decode())
    return 0


def _measure(threads: int, nvme: Path | None, elements: int) -> Bandwidths:
    begun = time.time()
    drive = drive_speed(nvme) if nvme else None
    from launcher.probes.bandwidths.gpu import gpu_speed  # noqa: PLC0415 - they bring torch
    from launcher.probes.bandwidths.host import host_speed  # noqa: PLC0415

    host, gpu = host_speed(elements), gpu_speed(elements)
    return Bandwidths(this_hardware(threads), begun, time.time() - begun, host, gpu, drive)


@contextmanager
def _alone() -> Iterator[None]:
    """Two at once would take each other's share.

    A name that the kernel forgets with the process, so that there is no lock to be left behind.

    Raises:
        CannotRunHereError: another one is under way.
    """
    folder = bandwidths_file(this_hardware(0)).parent
    name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:32]
    with socket.socket(socket.AF_UNIX) as taken:
        try:
            taken.bind(f"\0simpletuner-tui-{name}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise CannotRunHereError("this machine is being measured already: try again in half a minute") from error
        yield


if __name__ == "__main__":
    sys.exit(main())
