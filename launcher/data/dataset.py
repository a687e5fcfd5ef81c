"""The data set that settings name: every picture with its caption and its bucket, and every fault at once."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from launcher.config.training import TrainingSettings
from launcher.data.buckets import MAXIMUM_ASPECT, Bucketing
from launcher.data.pictures import SUFFIXES, Fitting, LeftOutError, Picture, pictures_below, sizes
from launcher.errors import InvalidInputError

NAMED = 20
"""How many faults a message lists before it counts the rest."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """What is trained on."""

    pictures: tuple[Picture, ...]
    left_out: tuple[str, ...] = ()
    """Pictures that a rule of the settings leaves out, each with the reason."""


def find(training: TrainingSettings) -> Dataset:
    """Reads names, captions and headers of a data set; no picture is loaded.

    Raises:
        InvalidInputError: names every fault found: no folder, no pictures, a picture that cannot be read or does
            not fill its bucket, a caption without a picture, a picture without a caption, a folder or a link that
            leads nowhere.
    """
    folder = Path(training.data.instance_data_dir)
    pictures: list[Picture] = []
    faults: list[str] = []
    left_out: list[str] = []
    for path, found in _read(folder, fitting(training), faults):
        match found:
            case Picture():
                pictures.append(found)
            case LeftOutError():
                left_out.append(f"{path}: {found}")
            case _:
                faults.append(f"{path}: {found}")
    if faults:
        raise InvalidInputError(f"{folder} cannot be trained on yet:\n  {listed(faults)}")
    if not pictures:
        raise InvalidInputError(f"no picture of {folder} is left to train on:\n  {listed(left_out)}")
    return Dataset(tuple(pictures), tuple(left_out))


def fitting(training: TrainingSettings) -> Fitting:
    """Which bucket takes which picture."""
    chosen = training.preparation
    bucketing = Bucketing(
        resolution=training.data.resolution,
        square=chosen.crop,
        shorter_side=chosen.resolution_type == "pixel",
        alignment=chosen.aspect_bucket_alignment,
        maximum_aspect=max(1.0, chosen.maximum_aspect_ratio) if chosen.maximum_aspect_ratio else MAXIMUM_ASPECT,
    )
    return Fitting(bucketing, chosen.minimum_image_size, chosen.maximum_aspect_ratio)


def listed(lines: list[str]) -> str:
    """The first lines, each on its own, and how many there are more."""
    more = f"\n  and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    return "\n  ".join(lines[:NAMED]) + more


def _read(folder: Path, fits: Fitting, faults: list[str]) -> Iterator[tuple[Path, Picture | ValueError]]:
    """Each picture of a folder, or what is wrong with it."""
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises where it may not look
        raise InvalidInputError(f"{folder} is not a folder; training.instance_data_dir names the folder of pictures")
    files, paths = pictures_below(folder, faults)
    if not paths and not faults:
        raise InvalidInputError(
            f"{folder} has no pictures ({', '.join(sorted(SUFFIXES))}); "
            "put them there, each with its caption in a .txt file of the same name"
        )
    faults += _lone_captions(files, paths)
    for path, size in zip(paths, sizes(paths), strict=True):
        if isinstance(size, ValueError):
            yield path, size
            continue
        try:
            bucket = fits.bucket(size)
            yield path, Picture(path, _caption(path.with_suffix(".txt")), *size, bucket)
        except ValueError as error:
            yield path, error


def _lone_captions(files: list[Path], pictures: list[Path]) -> Iterator[str]:
    stems = {path.with_suffix("") for path in pictures}
    for path in files:
        if path.suffix.lower() == ".txt" and path.with_suffix("") not in stems:
            yield f"{path}: a caption without a picture; add the picture or remove the caption"


def _caption(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        raise ValueError(f"has no caption; write one into {path.name} beside it") from None
    except UnicodeDecodeError:
        raise ValueError(f"its caption {path.name} is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"its caption {path.name} cannot be read ({error.strerror}); replace it") from error
