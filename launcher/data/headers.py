"""Pictures measured by their headers, without loading any of them."""

import stat
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from launcher.data.buckets import Size

EXIF_ORIENTATION = 0x0112
ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
READERS = 8
"""Threads that read headers: most of a scan is waiting, on a disk of a network above all."""


def sizes(paths: Sequence[Path]) -> list[Size | ValueError]:
    """The size of each picture as a viewer shows it, by its header, or what is wrong with it; in order."""
    with warnings.catch_warnings(), ThreadPoolExecutor(READERS, thread_name_prefix="headers") as pool:
        warnings.simplefilter("ignore")  # of large pictures and of damaged EXIF data, which trains all the same
        return list(pool.map(_size_or_fault, paths))


def _size_or_fault(path: Path) -> Size | ValueError:
    try:
        return _size(path)
    except ValueError as error:
        return error


def _size(path: Path) -> Size:
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); replace or remove it") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no file; remove it")
    if status.st_size == 0:
        raise ValueError("the file is empty (0 bytes); replace or remove it")
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(EXIF_ORIENTATION) in ON_ITS_SIDE
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError, RuntimeError) as error:
        raise ValueError(f"cannot be read as a picture ({error}); replace or remove it") from error
    return Size(height, width) if turned else Size(width, height)
