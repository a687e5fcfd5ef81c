"""Disks: where a path will lie, what is free there, whether it can be written."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path


def nearest_existing(path: Path) -> Path:
    """The path, or the closest folder above it that exists."""
    # Unlike Path.exists, this takes a place that cannot be looked at for one that is not there.
    return next(place for place in (path, *path.parents) if os.path.exists(place))  # noqa: PTH110


def free_bytes(path: Path) -> int:
    """Free bytes on the filesystem a path lies, or will lie, on."""
    return shutil.disk_usage(nearest_existing(path)).free


def bytes_below(folder: Path) -> int:
    """Bytes of all files of a folder and below; links count as themselves. 0 where there is none."""
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                size += Path(place, name).lstat().st_size
    return size


def why_not_writable(path: Path) -> str | None:
    """Why a folder could not be made or written at ``path``; None when it can."""
    existing = nearest_existing(path)
    if not existing.is_dir():
        return f"{existing} is a file"
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{existing} cannot be written by this user"
    try:
        # Permissions are not all: root has them in /proc, and so has anyone on a disk that went read-only.
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"{existing} cannot be written ({error.strerror})"


def same_filesystem(one: Path, other: Path) -> bool:
    """Whether two paths lie, or will lie, on one filesystem."""
    return nearest_existing(one).stat().st_dev == nearest_existing(other).stat().st_dev
