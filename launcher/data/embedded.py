"""Pictures that lie in rows, of parquet files or of a data set of the hub: each becomes a file in the cache folder."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator
from glob import glob
from pathlib import Path
from typing import Any

from launcher.config.training.sources import SourceSettings
from launcher.data.files import SUFFIXES
from launcher.data.rows import read_rows, text_of
from launcher.errors import CannotRunHereError, InvalidInputError

WRITTEN = "rows.json"
"""Written last: files and captions of a source whose pictures are all there."""


def unpack(source: SourceSettings, cache: Path, faults: list[str]) -> dict[Path, str]:
    """Captions of a source's pictures, by the files that its rows were written to.

    Where the source has the picture as a file already, that is taken. What was written is not written again.

    Args:
        source: of type ``parquet`` or ``huggingface``.
        cache: gets a folder ``rows`` with a folder for each source.
        faults: gets a line for each row that is of no use.

    Raises:
        InvalidInputError: there is no such source, or it has no such column.
        CannotRunHereError: the cache folder cannot be written.
    """
    rows, version = _parquet(source) if source.type == "parquet" else _hub(source)
    dependencies = [
        version,
        source.image_column,
        source.caption_column,
        source.caption_strategy,
        source.instance_prompt,
    ]
    folder = cache / "rows" / hashlib.sha256(json.dumps(dependencies).encode()).hexdigest()[:16]
    try:
        if (folder / WRITTEN).exists():
            return {Path(path): caption for path, caption in json.loads((folder / WRITTEN).read_bytes())}
        folder.mkdir(parents=True, exist_ok=True)
        found: dict[Path, str] = {}
        before = len(faults)
        for place, row in rows:
            try:
                caption = _caption(row, source)
                found[_file(row.get(source.image_column), folder / f"{len(found):08}")] = caption
            except ValueError as error:
                faults.append(f"{place} {error}")
        if len(faults) == before:
            unfinished = folder / f"{WRITTEN}.unfinished"
            unfinished.write_text(json.dumps([[str(path), caption] for path, caption in found.items()]))
            unfinished.replace(folder / WRITTEN)
        return found
    except OSError as error:
        why = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"fails: {os.strerror(error.errno or 0)}"
        raise CannotRunHereError(
            f"the disk of the cache folder {cache} {why}; make room or choose another with training.cache_dir. What is "
            "written already is kept"
        ) from error


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


def _parquet(source: SourceSettings) -> tuple[Iterator[tuple[str, dict[str, Any]]], object]:
    """The rows of all files, each with what to call it, and what tells these files from others."""
    files = [Path(path) for path in sorted(glob(source.parquet_path))]  # noqa: PTH207 - a pattern with its folder
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

    return rows(), [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _hub(source: SourceSettings) -> tuple[Iterator[tuple[str, dict[str, Any]]], object]:
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

    return rows(), [name, source.dataset_config, source.split, len(data), data.cache_files]
