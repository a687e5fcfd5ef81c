"""The data set as files: pictures and their captions, found and checked without loading any of them."""

import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from launcher.errors import InvalidInputError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
NAMED = 20
"""How many faults a message lists before it counts the rest."""
EXIF_ORIENTATION = 0x0112
ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture with its caption. Width and height are as a viewer shows it, EXIF rotation applied."""

    path: Path
    caption: str
    width: int
    height: int


def scan(folder: Path, resolution: int) -> list[Picture]:
    """The pictures of a folder and below, sorted by path; hidden files and folders are passed over.

    Args:
        folder: pictures, each with a .txt file of the same name beside it that holds its caption.
        resolution: side in pixels that each picture must reach in both directions.

    Raises:
        InvalidInputError: names every fault found: no folder, no pictures, a picture that cannot be read or
            is smaller than the resolution, a caption without a picture, a picture without a caption, a folder
            or a link that leads nowhere.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises where it may not look
        raise InvalidInputError(f"{folder} is not a folder; training.instance_data_dir names the folder of pictures")
    faults: list[str] = []
    files = sorted(_files(folder, faults))
    paths = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not paths and not faults:
        raise InvalidInputError(
            f"{folder} has no pictures ({', '.join(sorted(SUFFIXES))}); "
            "put them there, each with its caption in a .txt file of the same name"
        )
    pictures: list[Picture] = []
    faults += _lone_captions(files, paths)
    for path in paths:
        try:
            pictures.append(_read(path, resolution))
        except ValueError as error:
            faults.append(f"{path}: {error}")
    if faults:
        listed = "\n  ".join(faults[:NAMED])
        more = f"\n  and {len(faults) - NAMED} more" if len(faults) > NAMED else ""
        raise InvalidInputError(f"{folder} cannot be trained on yet:\n  {listed}{more}")
    return pictures


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


def _lone_captions(files: list[Path], pictures: list[Path]) -> Iterator[str]:
    stems = {path.with_suffix("") for path in pictures}
    for path in files:
        if path.suffix.lower() == ".txt" and path.with_suffix("") not in stems:
            yield f"{path}: a caption without a picture; add the picture or remove the caption"


def _read(path: Path, resolution: int) -> Picture:
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror}); replace or remove it") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no file; remove it")
    if status.st_size == 0:
        raise ValueError("the file is empty (0 bytes); replace or remove it")
    width, height = _size(path)
    if min(width, height) < resolution:
        raise ValueError(
            f"{width}x{height} is smaller than the resolution of {resolution}; use larger pictures or lower "
            "training.resolution"
        )
    return Picture(path, _caption(path.with_suffix(".txt")), width, height)


def _size(path: Path) -> tuple[int, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures and of damaged EXIF data, which trains all the same
            with Image.open(path) as image:
                width, height = image.size
                turned = image.getexif().get(EXIF_ORIENTATION) in ON_ITS_SIDE
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError, RuntimeError) as error:
        raise ValueError(f"cannot be read as a picture ({error}); replace or remove it") from error
    return (height, width) if turned else (width, height)


def _caption(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        raise ValueError(f"has no caption; write one into {path.name} beside it") from None
    except UnicodeDecodeError:
        raise ValueError(f"its caption {path.name} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"its caption {path.name} cannot be read ({error.strerror}); replace it") from error
