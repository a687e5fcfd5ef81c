"""Completing a path as it is typed."""

import os
from dataclasses import dataclass
from pathlib import Path

MOST = 500
"""Entries looked at; a folder of a million pictures must not stop the keyboard."""


@dataclass(frozen=True, slots=True)
class Completions:
    """What a typed path could become."""

    matches: tuple[str, ...]
    """Names in the folder, folders with a slash, sorted."""
    common: str
    """What was typed, longer by as much as all matches share."""


def completions(typed: str, base: Path) -> Completions:
    """Files and folders whose path begins with what was typed; nothing where it cannot be read.

    Args:
        typed: relative, absolute, or beginning with ``~``.
        base: what relative paths count from.
    """
    folder, name = os.path.split(typed)
    try:
        names = _names(base / os.path.expanduser(folder), name)  # noqa: PTH111 - a name like ~x must stay text
    except (OSError, ValueError):
        names = []
    if not names:
        return Completions((), typed)
    shared = os.path.commonprefix(names)  # noqa: RUF071 - characters, not components, are what one types
    return Completions(tuple(names), os.path.join(folder, shared) if folder else shared)  # noqa: PTH118 - keeps ./


def _names(folder: Path, beginning: str) -> list[str]:
    names = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number >= MOST:
                break
            hidden = entry.name.startswith(".") and not beginning.startswith(".")
            if entry.name.startswith(beginning) and not hidden:
                names.append(entry.name + (os.sep if entry.is_dir() else ""))
    return sorted(names)
