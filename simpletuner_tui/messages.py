"""Messages for the person, apart from the data on stdout."""

import sys


def tell(message: str) -> None:
    """A message for the person: stderr."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201


def left_to_itself(run: str) -> str:
    """How to get back to a run that goes on without this terminal."""
    return f"{run} trains by itself: simpletuner-tui attach {run} · stop {run} · logs {run}"
