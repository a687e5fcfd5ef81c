"""Picture files of a folder, by their names."""

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})


def pictures_below(folder: Path, faults: list[str]) -> tuple[list[Path], list[Path]]:
    """All files of a folder and below, sorted, and the pictures among them; hidden ones are passed over.

    Args:
        folder: where they lie.
        faults: gets a line for each folder that cannot be read.
    """
    files = sorted(_files(folder, faults))
    return files, [path for path in files if path.suffix.lower() in SUFFIXES]


def count(folder: Path) -> int:
    """How many pictures a folder seems to have, by their names alone."""
    return sum(path.suffix.lower() in SUFFIXES for path in _files(folder, []))


def _files(folder: Path, faults: list[str]) -> Iterator[Path]:
    """Files of a folder and below, none of them hidden; links to folders are followed, each folder once."""
    seen: set[tuple[int, int]] = set()

    def unreadable(error: OSError) -> None:
        faults.append(f"{error.filename}: the folder cannot be read ({error.strerror}); change its permissions")

    for place, folders, names in os.walk(folder, onerror=unreadable, followlinks=True):
        status = Path(place).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in names if not name.startswith("."))
