"""Files of rows about pictures: JSON lines, CSV, parquet."""

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""What the imagefolder convention of ``datasets`` calls them."""
AT_ONCE = 64
"""Rows of parquet in memory: each may hold a picture."""


def read_rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with their number, counted from 1 without a header.

    Raises:
        ValueError: the file, or its next row, cannot be read; says why, for the person.
    """
    try:
        if file.suffix.lower() == ".parquet":
            yield from enumerate(_parquet(file), start=1)
        elif file.suffix.lower() == ".csv":
            yield from enumerate(_csv(file), start=1)
        else:
            yield from _json_lines(file)
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text; save it as UTF-8") from None


def text_of(row: dict[str, Any], column: str) -> str:
    """A row's text in a column.

    Raises:
        ValueError: it has none; says what it has instead.
    """
    if column not in row:
        raise ValueError(f"has no column {column!r}; it has {', '.join(map(repr, row)) or 'none'}")
    value = row[column]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        raise ValueError(f"has nothing in {column!r}")
    if not isinstance(value, str):
        raise ValueError(f"has {value!r:.40} in {column!r}, which is no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"has half a character in {column!r}; it cannot be written as UTF-8") from None
    return value


def captions_by_rows(
    files: list[tuple[Path, Path]], pictures: list[Path], filename_column: str, caption_column: str, faults: list[str]
) -> dict[Path, str]:
    """Captions by picture, from files that name both.

    Args:
        files: each with the folder that its names count from.
        pictures: those there are; a name may leave out its suffix.
        filename_column: names pictures.
        caption_column: holds captions.
        faults: gets a line for each row that is of no use.
    """
    known = set(pictures)
    by_stem = {path.with_suffix(""): path for path in pictures}
    captions: dict[Path, str] = {}
    rows_of: dict[Path, str] = {}
    for file, folder in files:
        number = 0
        try:
            for number, row in read_rows(file):
                place = f"{file} row {number}"
                try:
                    named = Path(os.path.normpath(folder / text_of(row, filename_column)))
                    path = named if named in known else by_stem.get(named)
                    if path is None:
                        raise ValueError(f"names {named}, which is {_what(named)}")
                    if path in rows_of:
                        raise ValueError(f"names {path} again, after {rows_of[path]}")
                    rows_of[path] = place
                    captions[path] = text_of(row, caption_column).strip()
                except ValueError as error:
                    faults.append(f"{place} {error}")
        except ValueError as error:
            faults.append(f"{file} {error}" + (f", after row {number}" if number else ""))
    for path in pictures:
        if path not in rows_of:
            names = " or ".join(sorted({file.name for file, _ in files}))
            faults.append(f"{path}: has no row in {names}; add one or remove the picture")
    return captions


def rows_and_bytes(files: Iterable[Path], column: str) -> tuple[int, int]:
    """How many rows parquet files have, and bytes of one of their columns, as their footers say.

    What cannot be read has none: it is told where its rows are read.
    """
    import pyarrow  # noqa: PLC0415 - large, and few data sets need it
    import pyarrow.parquet  # noqa: PLC0415

    rows = size = 0
    for file in files:
        try:
            footer = pyarrow.parquet.read_metadata(file)
        except (OSError, pyarrow.ArrowException):
            continue
        rows += footer.num_rows
        for group in map(footer.row_group, range(footer.num_row_groups)):
            parts = map(group.column, range(group.num_columns))
            size += sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] == column)
    return rows, size


def _what(path: Path) -> str:
    return "no picture" if os.path.exists(path) else "not there"  # noqa: PTH110 - Path.exists raises where it may not look


def _json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"row {number} is no JSON ({error})") from error
            if not isinstance(row, dict):
                raise ValueError(f"row {number} is no object but {row!r:.40}")
            yield number, row


def _csv(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        try:
            for row in reader:
                if None in row:
                    raise ValueError(
                        f"line {reader.line_num} has more values than the header has columns; quote commas"
                    )
                yield row
        except csv.Error as error:
            raise ValueError(f"line {reader.reader.line_num} is no CSV ({error})") from error


def _parquet(file: Path) -> Iterator[dict[str, Any]]:
    import pyarrow  # noqa: PLC0415 - large, and few data sets need it
    import pyarrow.parquet  # noqa: PLC0415

    try:
        with pyarrow.parquet.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=AT_ONCE):
                yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(f"is no whole parquet file ({str(error).splitlines()[0]})") from error
