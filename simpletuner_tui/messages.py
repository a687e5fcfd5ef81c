"""Messages for the person, apart from the data on stdout."""

import sys
import time
from collections.abc import Callable

POLL = 0.2
"""Seconds between two looks at what is waited for."""
WIPE = "\r\x1b[K"


def tell(message: str) -> None:
    """A message for the person: stderr."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


def wait_in_seconds(ended: Callable[[], bool], message: str) -> None:
    """Waits until something has ended; on a terminal the seconds run.

    Args:
        ended: whether it has.
        message: said first.
    """
    begun, moves = time.monotonic(), sys.stderr is not None and sys.stderr.isatty()
    tell(message)
    try:
        while not ended():
            if moves:
                print(f"{WIPE}{time.monotonic() - begun:.0f} s", end="", file=sys.stderr, flush=True)  # noqa: T201
            time.sleep(POLL)
    finally:
        if moves:
            print(WIPE, end="", file=sys.stderr, flush=True)  # noqa: T201


def left_to_itself(run: str) -> str:
    """How to get back to a run that goes on without this terminal."""
    return f"{run} trains by itself: simpletuner-tui attach {run} · stop {run} · logs {run}"
