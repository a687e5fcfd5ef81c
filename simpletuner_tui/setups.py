"""Set-ups: files of answers that were saved, found again from anywhere by an index of where they are."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import InvalidInputError
from launcher.runs.index import PathIndex, state_folder


@dataclass(frozen=True, slots=True)
class SetUpFile:
    """A file of answers."""

    path: Path
    saved: float
    """Seconds since the epoch, by the file itself."""
    bytes: int


def remember(path: Path) -> None:
    """Adds a file that was saved; those that are gone are left out from then on."""
    index, place = _index(), path.absolute()
    for known in index.paths():
        if not os.path.lexists(known):
            index.remove(Path(known))
    index.add(place)


def remove_setup(path: Path) -> None:
    """Deletes a file, or the link that it is, and forgets it.

    Raises:
        InvalidInputError: the folder refuses.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be deleted: {error.strerror}") from error
    _index().remove(path)


def known_setups() -> list[SetUpFile]:
    """Those that are still there, the newest first."""
    found = []
    for name in _index().paths():
        with suppress(OSError, ValueError):
            path = Path(name)
            there = path.stat()
            found.append(SetUpFile(path, there.st_mtime, there.st_size))
    return sorted(found, key=lambda each: each.saved, reverse=True)


def _index() -> PathIndex:
    return PathIndex(state_folder() / "set-ups.json")
