"""Pictures as files: found and measured by their headers, without loading any of them."""

import os
import stat
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from launcher.data.buckets import Bucketing, Size

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
EXIF_ORIENTATION = 0x0112
ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""
READERS = 8
"""Threads that read headers: most of a scan is waiting, on a disk of a network above all."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where pictures come from, and how often each is drawn."""

    name: str
    """Empty where there is one folder only."""
    repeats: int = 0
    """How many times more often than once each is drawn in an epoch."""
    probability: float = 1.0
    """The share of its pictures that an epoch draws, others each time."""


ONE_FOLDER = Source("")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture with its caption. Width and height are as a viewer shows it, EXIF rotation applied."""

    path: Path
    caption: str
    width: int
    height: int
    bucket: Size
    """What it is scaled and cropped to."""
    source: Source = ONE_FOLDER


class LeftOutError(ValueError):
    """A rule of the settings leaves a picture out."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """Which bucket takes a picture, and which pictures none takes."""

    bucketing: Bucketing
    minimum_size: int = 0
    """In pixels: pictures with a shorter side are left out. 0: those that do not fill their bucket are refused."""
    maximum_aspect: float = 0.0
    """Longer side to shorter: more elongated pictures are left out. 0: those that no bucket comes near are refused."""

    def bucket(self, size: Size) -> Size:
        """The bucket of a picture.

        Raises:
            LeftOutError: a rule leaves it out.
            ValueError: it is refused; both say why, for the person.
        """
        shorter, longer = sorted(size)
        if self.minimum_size and shorter < self.minimum_size:
            raise LeftOutError(f"{size} is below training.minimum_image_size of {self.minimum_size}")
        if self.maximum_aspect and longer > self.maximum_aspect * shorter:
            raise LeftOutError(
                f"{size} is more elongated than training.maximum_aspect_ratio of {self.maximum_aspect:g}"
            )
        bucket = self.bucketing.bucket(*size)
        resolution = self.bucketing.resolution
        if not self.minimum_size and (size.width < bucket.width or size.height < bucket.height):
            of = f"resolution of {resolution}"
            if bucket != (resolution, resolution):
                of = f"bucket of {bucket}"
            raise ValueError(f"{size} is smaller than the {of}; use larger pictures or lower training.resolution")
        if not self.bucketing.one_square and longer > self.bucketing.maximum_aspect * shorter:
            raise ValueError(
                f"{size} is more elongated than {self.bucketing.maximum_aspect:g} to 1; crop it, or leave such "
                "pictures out with training.maximum_aspect_ratio"
            )
        return bucket


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
