"""Pictures that lie in rows, of parquet files or of a data set of the hub: each becomes a file in the cache folder."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from launcher.config.training.sources import SourceSettings
from launcher.data.files import SUFFIXES
from launcher.data.rows import read_rows, rows_and_bytes, text_of
from launcher.data.unpacked import ROWS, Unpacked, hold, remove_superseded
from launcher.errors import CannotRunHereError, InvalidInputError
from launcher.machine.disk import bytes_below, free_bytes

GIB = 2**30
WRITTEN = "rows.json"
"""Written last: files and captions of a source whose pictures are all there."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a source."""

    each: Iterator[tuple[str, dict[str, Any]]]
    """With what to call it in messages."""
    version: object
    """What tells them from what the source held or holds at other times."""
    bytes: int
    """That their pictures take, about."""


def unpack(source: SourceSettings, cache: Path, faults: list[str], removed: list[Unpacked]) -> dict[Path, str]:
    """Captions of a source's pictures, by the files that its rows were written to.

    Where the source has the picture as a file already, that is taken. What was written is not written again; what was
    written before the rows changed is removed once all is written anew.

    Args:
        source: of type ``parquet`` or ``huggingface``.
        cache: gets a folder ``rows`` with a folder for each source.
        faults: gets a line for each row that is of no use.
        removed: gets each folder that is of no more use.

    Raises:
        InvalidInputError: there is no such source, or it has no such column.
        CannotRunHereError: the cache folder cannot be written, or has no room; nothing is written then.
    """
    rows = _parquet(source) if source.type == "parquet" else _hub(source)
    dependencies = [
        rows.version,
        source.image_column,
        source.caption_column,
        source.caption_strategy,
        source.instance_prompt,
    ]
    folder = cache / ROWS / hashlib.sha256(json.dumps(dependencies).encode()).hexdigest()[:16]
    try:
        if (folder / WRITTEN).exists():
            hold(folder, source)
            return {Path(path): caption for path, caption in json.loads((folder / WRITTEN).read_bytes())}
        _require_room(folder, rows.bytes, source)
        hold(folder, source)
        found: dict[Path, str] = {}
        before = len(faults)
        for place, row in rows.each:
            try:
                caption = _caption(row, source)
                found[_file(row.get(source.image_column), folder / f"{len(found):08}")] = caption
            except ValueError as error:
                faults.append(f"{place} {error}")
        if len(faults) == before:
            unfinished = folder / f"{WRITTEN}.unfinished"
            unfinished.write_text(json.dumps([[str(path), caption] for path, caption in found.items()]))
            unfinished.replace(folder / WRITTEN)
            removed += remove_superseded(folder, source)
        return found
    except OSError as error:
        why = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"fails: {os.strerror(error.errno or 0)}"
        raise CannotRunHereError(
            f"the disk of the cache folder {cache} {why}; make room or choose another with training.cache_dir. What is "
            "written already is kept"
        ) from error


def _require_room(folder: Path, needed: int, source: SourceSettings) -> None:
    more, free = needed - bytes_below(folder), free_bytes(folder)
    if more > free:
        raise CannotRunHereError(
            f"{folder.parent} needs {more / GIB:.1f} GiB more for the pictures of {source.id}, and "
            f"{free / GIB:.1f} GiB are free on its disk; make room or choose another with training.cache_dir"
        )


def _caption(row: dict[str, Any], source: SourceSettings) -> str:
    if source.caption_strategy == "instanceprompt":
        return source.instance_prompt
    return text_of(row, source.caption_column).strip()


def _file(value: object, target: Path) -> Path:
    """A row's picture as a file."""
    content, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
    name = name if isinstance(name, str) else ""
    if content is None and name and Path(name).is_file():
        return Path(name)
    if not isinstance(content, bytes) or not content:
        raise ValueError("has no picture")
    suffix = Path(name).suffix.lower()
    target = target.with_suffix(suffix if suffix in SUFFIXES else ".picture")
    if not target.exists():
        unfinished = target.with_suffix(".unfinished")
        unfinished.write_bytes(content)
        unfinished.replace(target)
    return target


def parquet_files(pattern: str) -> list[Path]:
    """The files that ``parquet_path`` of a source in rows names, in their order."""
    return [Path(path) for path in sorted(glob(pattern))]  # noqa: PTH207 - a pattern with its folder


def _parquet(source: SourceSettings) -> _Rows:
    """The rows of all files."""
    files = parquet_files(source.parquet_path)
    if not files:
        raise InvalidInputError(f"{source.parquet_path} is not there")

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for file in files:
            try:
                for number, row in read_rows(file):
                    if number == 1 and source.image_column not in row:
                        raise ValueError(f"has no column {source.image_column!r}; it has {', '.join(map(repr, row))}")
                    yield f"{file} row {number}", row
            except ValueError as error:
                raise InvalidInputError(f"{file} {error}") from error

    version = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    _, size = rows_and_bytes(files, source.image_column)
    return _Rows(rows(), version, size)


def _hub(source: SourceSettings) -> _Rows:
    """The same of a data set that ``datasets`` loads: from the hub, from its cache, or from a folder here."""
    import datasets  # noqa: PLC0415 - seconds, and few data sets need it

    name = source.dataset_name
    try:
        data = datasets.load_dataset(name, source.dataset_config or None, split=source.split)
    except Exception as error:  # of many kinds, and none of them ours: no such data set, no network, damaged files
        told = str(error).splitlines() or [type(error).__name__]
        raise InvalidInputError(f"{source.id}: the data set {name} cannot be loaded: {told[0]}") from error
    columns = {source.image_column}
    if source.caption_strategy != "instanceprompt":
        columns.add(source.caption_column)
    if missing := sorted(columns - set(data.column_names)):
        raise InvalidInputError(
            f"{source.id}: the data set {name} has no column {missing[0]!r}; it has {', '.join(data.column_names)}"
        )
    if not isinstance(data.features[source.image_column], datasets.Image):
        raise InvalidInputError(f"{source.id}: the column {source.image_column!r} of {name} holds no pictures")
    data = data.select_columns(sorted(columns)).cast_column(source.image_column, datasets.Image(decode=False))

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        for number, row in enumerate(data, start=1):
            yield f"{source.id} row {number}", dict(row)

    version = [name, source.dataset_config, source.split, len(data), data.cache_files]
    return _Rows(rows(), version, data.data.nbytes)
