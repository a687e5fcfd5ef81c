"""readings.bin: what a run's machine showed, second by second, kept beside its events.

A line of JSON says what the columns are; then follow rows of that many 32-bit floats, little-endian as every host that
CUDA knows, so that a day of one GPU takes some 5 MB and is read in a moment. All launches of a run write to one file:
where a later one looks at other GPUs or folders, columns are added at once to all rows, those that were there unknown
in them.
"""

import json
import math
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.machine.sample import Figure, GpuSample, Sample
from launcher.runs.directory import write_atomic

FIGURE = 4
"""Bytes of one."""
AT_ONCE = 4096
"""Rows that are read at a time."""
OF_A_GPU = ("used_mib", "utilisation", "temperature", "power_w", "received_mib_s", "sent_mib_s")
OF_A_DISK = ("free_mib", "read_mib_s", "written_mib_s")
OF_THE_RUN = ("run.resident_mib", "run.pinned_mib", "host.available_mib", "host.load")


@dataclass(frozen=True, slots=True)
class RecordedGpu:
    """A GPU whose readings were kept."""

    index: int
    uuid: str
    name: str
    total_mib: float


@dataclass(frozen=True, slots=True)
class Header:
    """What a file of readings holds."""

    began: float
    """Seconds since the epoch; the first column, ``seconds``, counts from here."""
    gpus: tuple[RecordedGpu, ...]
    host_total_mib: int
    folders: tuple[str, ...]
    """Whose disks were looked at."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in their order: ``gpu.0.used_mib`` is of the first of ``gpus``."""
        gpus = (f"gpu.{place}.{name}" for place in range(len(self.gpus)) for name in OF_A_GPU)
        disks = (f"disk.{place}.{name}" for place in range(len(self.folders)) for name in OF_A_DISK)
        return ("seconds", *OF_THE_RUN, *gpus, *disks)


class ReadingsFile:
    """Appends to a run's readings. A launch goes on with the file of the launch before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header: Header | None = None

    def append(self, sample: Sample) -> None:
        """Adds a row; a disk that refuses costs the row, never the run."""
        header, self._header = self._header, None
        with suppress(OSError):
            if header is None or not _holds(header, sample):
                header = self._open(sample)
            with self._path.open("ab") as file:
                file.write(_row(header, sample))
            self._header = header  # else what is there is looked at anew: a part of the row may have been written

    def _open(self, sample: Sample) -> Header:
        """Makes the file one that takes the sample; whole rows of it stay."""
        wanted = _header_of(sample)
        there = read_header(self._path)
        if there is None:
            write_atomic(self._path, _line(wanted))
            return wanted
        header = _merged(there, wanted)
        with self._path.open("r+b") as file:
            line, width = file.readline(), len(there.columns) * FIGURE
            rows = (self._path.stat().st_size - len(line)) // width
            if line == _line(header):
                file.truncate(len(line) + rows * width)
                return header
            old = array("f", file.read(rows * width))
        write_atomic(self._path, _line(header) + _with_columns(old, there.columns, header.columns).tobytes())
        return header


def read_header(path: Path) -> Header | None:
    """What a file holds; None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            return _header_in(file.readline())
    except OSError:
        return None


def read_rows(path: Path, columns: int, row: int = 0) -> Iterator["array[float]"]:
    """Rows from one on, each as long as there are columns; what is unknown is NaN.

    None where the header names another number by now: a launch that looks at more has begun, and the header has to be
    read again. Rows keep their numbers.

    Args:
        path: of the file.
        columns: how many the header names.
        row: the first that is wanted.
    """
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        header, width = _header_in(file.readline()), columns * FIGURE
        if header is None or len(header.columns) != columns:
            return
        file.seek(row * width, 1)
        while content := file.read(AT_ONCE * width):
            figures = array("f", content[: len(content) // width * width])
            for start in range(0, len(figures), columns):
                yield figures[start : start + columns]


def _header_in(line: bytes) -> Header | None:
    try:
        said = json.loads(line)
        gpus = tuple(RecordedGpu(*gpu) for gpu in said["gpus"])
        return Header(said["began"], gpus, said["host_total_mib"], tuple(said["folders"]))
    except (ValueError, TypeError, KeyError):
        return None


def read_course(path: Path, columns: int, most: int) -> "tuple[list[array[float]], int]":
    """The whole file in so many rows at most, each with the highest of what it stands for; and how many rows there are.

    Args:
        path: of the file.
        columns: how many the header names.
        most: rows that are wanted.
    """
    figures = array("f")
    try:
        with path.open("rb") as file:
            file.readline()
            figures.frombytes((content := file.read())[: len(content) // (columns * FIGURE) * columns * FIGURE])
    except FileNotFoundError:
        return [], 0
    rows = len(figures) // columns
    each = max(1, -(-rows // most))
    by_column = [figures[column::columns] for column in range(columns)]
    return [
        array("f", (_highest(column[begin : begin + each]) for column in by_column)) for begin in range(0, rows, each)
    ], rows


def _highest(values: "array[float]") -> float:
    """NaN only where all are: it compares as nothing, so one at the front would hide the others."""
    known = [value for value in values if not math.isnan(value)]
    return max(known, default=math.nan)


def _header_of(sample: Sample) -> Header:
    named = [gpu for gpu in sample.gpus if gpu.uuid]  # one that was lost before it told its UUID tells nothing
    gpus = tuple(RecordedGpu(gpu.index, gpu.uuid, gpu.name, _number(gpu.total_mib)) for gpu in named)
    return Header(sample.time, gpus, sample.host.total_mib, tuple(str(disk.folder) for disk in sample.disks))


def _holds(header: Header, sample: Sample) -> bool:
    uuids, folders = {gpu.uuid for gpu in header.gpus}, set(header.folders)
    return all(gpu.uuid in uuids for gpu in sample.gpus if gpu.uuid) and all(
        str(disk.folder) in folders for disk in sample.disks
    )


def _merged(there: Header, wanted: Header) -> Header:
    """What was looked at keeps its place; what is new comes after it."""
    gpus = {gpu.uuid: gpu for gpu in there.gpus}
    for gpu in wanted.gpus:
        if gpu.uuid not in gpus or not math.isnan(gpu.total_mib):  # not known of one that is lost
            gpus[gpu.uuid] = gpu
    folders = tuple(dict.fromkeys((*there.folders, *wanted.folders)))
    return Header(there.began, tuple(gpus.values()), wanted.host_total_mib, folders)


def _line(header: Header) -> bytes:
    content = {
        "began": header.began,
        "gpus": [[gpu.index, gpu.uuid, gpu.name, gpu.total_mib] for gpu in header.gpus],
        "host_total_mib": header.host_total_mib,
        "folders": header.folders,
        "columns": header.columns,
    }
    return json.dumps(content).encode() + b"\n"


def _with_columns(old: "array[float]", before: Sequence[str], after: Sequence[str]) -> "array[float]":
    rows = len(old) // len(before)
    new = array("f", [math.nan]) * (rows * len(after))
    for place, name in enumerate(before):
        new[after.index(name) :: len(after)] = old[place :: len(before)]
    return new


def _row(header: Header, sample: Sample) -> bytes:
    run, host = sample.run, sample.host
    figures: list[Figure] = [sample.time - header.began]
    figures += [run.resident_mib, run.pinned_mib] if run else [math.nan, math.nan]
    figures += [host.available_mib, host.load]
    gpus: dict[str, GpuSample] = {gpu.uuid: gpu for gpu in sample.gpus}
    for recorded in header.gpus:
        gpu = gpus.get(recorded.uuid)
        figures += [getattr(gpu, name) if gpu else math.nan for name in OF_A_GPU]
    disks = {str(disk.folder): disk for disk in sample.disks}
    for folder in header.folders:
        disk = disks.get(folder)
        figures += [getattr(disk, name) if disk else math.nan for name in OF_A_DISK]
    return array("f", map(_number, figures)).tobytes()


def _number(figure: Figure) -> float:
    return float(figure) if isinstance(figure, int | float) else math.nan
