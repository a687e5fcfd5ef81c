"""Messages for the person, apart from the data on stdout."""

import sys


def tell(message: str) -> None:
    """A message for the person: stderr."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201
