"""Disks: where a path will lie, what is free there, whether it can be written."""

import os
import shutil
from pathlib import Path


def nearest_existing(path: Path) -> Path:
    """The path, or the closest folder above it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def free_bytes(path: Path) -> int:
    """Free bytes on the filesystem a path lies, or will lie, on."""
    return shutil.disk_usage(nearest_existing(path)).free


def why_not_writable(path: Path) -> str | None:
    """Why a folder could not be made or written at ``path``; None when it can."""
    existing = nearest_existing(path)
    if not existing.is_dir():
        return f"{existing} is a file"
    if not os.access(existing, os.W_OK | os.X_OK):
        return f"{existing} cannot be written by this user"
    return None


def same_filesystem(one: Path, other: Path) -> bool:
    """Whether two paths lie, or will lie, on one filesystem."""
    return nearest_existing(one).stat().st_dev == nearest_existing(other).stat().st_dev
