"""A command that needs torch and no run: started by the interface, which does not load it, as a process of its own."""

import sys
import time
from collections.abc import Callable

import torch

from launcher.errors import ExitCode, LauncherError

Progress = Callable[[int, int], None]
"""Told how much is done, and of how much."""
INTERVAL = 10.0
"""Seconds between two lines of progress where there is no terminal."""


def run_alone(title: str, work: Callable[[Progress], str]) -> int:
    """Does the work on a CPU with its progress on stderr and its result on stdout; returns the exit code.

    Args:
        title: what is shown beside the progress.
        work: returns what to print.
    """
    told = time.monotonic()

    def progress(done: int, total: int) -> None:
        nonlocal told
        if sys.stderr.isatty():
            print(f"\r{title} {done}/{total}", end="" if done < total else "\n", file=sys.stderr, flush=True)  # noqa: T201
        elif time.monotonic() - told >= INTERVAL:
            told = time.monotonic()
            print(f"{title} {done}/{total}", file=sys.stderr, flush=True)  # noqa: T201

    try:
        with torch.no_grad():
            print(work(progress), flush=True)  # noqa: T201
    except LauncherError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.CANCELLED)
    return int(ExitCode.OK)
