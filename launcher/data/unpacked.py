"""Folders of a cache that pictures from rows are written to: whose each is, what it takes, when it is of no more use.

Each names its source in ``source.json``. Where the rows of a source have changed, its pictures are written to another
folder, and nothing can come back to the one before: that one is removed. A folder of another source may be another
run's, which shares the cache, and is left alone.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.config.training.sources import SourceSettings
from launcher.machine.disk import bytes_below

ROWS = "rows"
"""The folder of a cache that holds them."""
SOURCE = "source.json"
"""What the pictures are of, and a lock that processes share which need them. A folder without one is left alone."""
SAYS = (
    "type",
    "parquet_path",
    "dataset_name",
    "dataset_config",
    "split",
    "image_column",
    "caption_column",
    "caption_strategy",
    "instance_prompt",
)
"""Keys that tell the pictures and captions of one source from those of another, but for a change of its rows."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A folder of pictures from rows."""

    path: Path
    bytes: int
    source: str
    """What it was unpacked from: files or the name of a data set."""


def hold(folder: Path, source: SourceSettings) -> None:
    """Makes a source's folder where there is none, and keeps it from being removed as long as this process lives.

    Raises:
        OSError: the disk refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SOURCE).exists():
        unfinished = folder / f"{SOURCE}.{os.getpid()}"
        unfinished.write_text(json.dumps(_says(source), indent=2))
        unfinished.replace(folder / SOURCE)
    with suppress(OSError):  # a filesystem without locks, where nothing is removed either
        fcntl.flock(os.open(folder / SOURCE, os.O_RDONLY), fcntl.LOCK_SH)  # never closed: held by the process


def remove_superseded(folder: Path, source: SourceSettings) -> Iterator[Unpacked]:
    """Removes what the same source was unpacked to before its rows changed; what a living process needs stays.

    Args:
        folder: with its pictures as its rows are now, all of them.
        source: whose they are.
    """
    for other in _folders(folder.parent):
        if other == folder or _read(other) != _says(source):
            continue
        try:
            handle = os.open(other / SOURCE, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = Unpacked(other, bytes_below(other), _name(_says(source)))
            shutil.rmtree(other)
            yield found
        except OSError:  # it is needed, cannot be locked, or cannot be removed
            continue
        finally:
            os.close(handle)


def there(cache: Path, sources: Iterable[SourceSettings]) -> tuple[list[Unpacked], list[Unpacked]]:
    """What a cache holds of these sources, and what of others."""
    wanted = [_says(source) for source in sources]
    mine: list[Unpacked] = []
    others: list[Unpacked] = []
    for folder in _folders(cache / ROWS):
        says = _read(folder)
        found = mine if says in wanted else others
        found.append(Unpacked(folder, bytes_below(folder), _name(says)))
    return mine, others


def _says(source: SourceSettings) -> dict[str, object]:
    return {key: getattr(source, key) for key in SAYS}


def _read(folder: Path) -> Mapping[str, object]:
    try:
        says = json.loads((folder / SOURCE).read_bytes())
    except (OSError, ValueError):  # removed meanwhile, or written by nobody we know
        return {}
    return says if isinstance(says, dict) else {}


def _name(says: Mapping[str, object]) -> str:
    return str(says.get("parquet_path") or says.get("dataset_name") or "a source that is not named")


def _folders(rows: Path) -> list[Path]:
    """Folders that say what they are of; links are passed over, as they may lead anywhere."""
    try:
        with os.scandir(rows) as entries:
            found = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted(folder for folder in found if (folder / SOURCE).is_file())
