"""The data set that settings name: every picture with its caption and its bucket, and every fault at once."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher.config.training import TrainingSettings
from launcher.config.training.sources import SourceSettings
from launcher.data.captions import captions_of
from launcher.data.embedded import unpack
from launcher.data.files import SUFFIXES, pictures_below
from launcher.data.headers import sizes
from launcher.data.pictures import Fitting, LeftOutError, Picture, Source
from launcher.data.sources import fitting, read_sources
from launcher.data.unpacked import Unpacked
from launcher.errors import InvalidInputError

NAMED = 20
"""How many faults a message lists before it counts the rest."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is trained on."""

    pictures: tuple[Picture, ...]
    left_out: tuple[str, ...] = ()
    """Pictures that a rule of the settings leaves out, each with the reason."""
    later: tuple[str, ...] = ()
    """Sources whose pictures were not looked at, since they lie in rows."""
    removed: tuple[Unpacked, ...] = ()
    """What sources had been unpacked to before their rows changed."""


def find(training: TrainingSettings, *, unpacked: bool = False) -> Dataset:
    """Reads names, captions and headers of a data set; no picture is loaded.

    Args:
        training: names the sources.
        unpacked: write pictures that lie in rows to the cache folder, and download them where need be; sources with
            such pictures are passed over otherwise.

    Raises:
        InvalidInputError: names every fault found: no folder, no pictures, a picture that cannot be read or does
            not fill its bucket, a caption without a picture, a picture without a caption, a folder or a link that
            leads nowhere.
        CannotRunHereError: the cache folder cannot be written.
    """
    pictures: list[Picture] = []
    faults: list[str] = []
    left_out: list[str] = []
    later: list[str] = []
    removed: list[Unpacked] = []
    refused: list[InvalidInputError] = []
    for source in read_sources(training):
        if source.type != "local" and not unpacked:
            later.append(source.id)
            continue
        try:
            paths, caption_of = _found(source, training, faults, removed)
        except InvalidInputError as error:
            refused.append(error)
            continue
        for path, found in zip(paths, _pictures(paths, caption_of, source, fitting(training, source)), strict=True):
            match found:
                case Picture():
                    pictures.append(found)
                case LeftOutError():
                    left_out.append(f"{path}: {found}")
                case _:
                    faults.append(f"{path}: {found}")
    named = training.sources.data_backend_config or training.data.instance_data_dir
    if len(refused) == 1 and not faults:
        raise refused[0]
    if refused or faults:
        told = [*map(str, refused), *faults]
        raise InvalidInputError(f"{named} cannot be trained on yet:\n  {listed(told)}")
    if not pictures and not later:
        raise InvalidInputError(f"no picture of {named} is left to train on:\n  {listed(left_out)}")
    return Dataset(tuple(pictures), tuple(left_out), tuple(later), tuple(removed))


def listed(lines: Sequence[str]) -> str:
    """The first lines, each on its own, and how many there are more."""
    more = f"\n  and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    return "\n  ".join(lines[:NAMED]) + more


def _found(
    source: SourceSettings, training: TrainingSettings, faults: list[str], removed: list[Unpacked]
) -> tuple[list[Path], Callable[[Path], str]]:
    """The picture files of a source, and what gives each its caption."""
    if source.type != "local":
        captions = unpack(source, Path(training.data.cache_dir), faults, removed)
        return list(captions), captions.__getitem__
    folder = Path(source.instance_data_dir)
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises where it may not look
        raise InvalidInputError(f"{folder} is not a folder; training.instance_data_dir names the folder of pictures")
    files, paths = pictures_below(folder, faults)
    if not paths and not faults:
        raise InvalidInputError(
            f"{folder} has no pictures ({', '.join(sorted(SUFFIXES))}); "
            "put them there, each with its caption in a .txt file of the same name"
        )
    return paths, captions_of(source, files, paths, faults)


def _pictures(
    paths: list[Path], caption_of: Callable[[Path], str], source: SourceSettings, fits: Fitting
) -> list[Picture | ValueError]:
    """Each picture of a source, or what is wrong with it."""
    drawn = Source(source.id, source.repeats, source.probability)
    found: list[Picture | ValueError] = []
    for path, size in zip(paths, sizes(paths), strict=True):
        if isinstance(size, ValueError):
            found.append(size)
            continue
        try:
            bucket = fits.bucket(size)
            found.append(Picture(path, caption_of(path), *size, bucket, drawn))
        except ValueError as error:
            found.append(error)
    return found
