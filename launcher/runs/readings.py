"""readings.bin: what a run's machine showed, second by second, kept beside its events.

A line of JSON says what the columns are; then follow rows of that many 32-bit floats, so that a day of one GPU takes
some 4 MB and is read in a moment.
"""

import json
import math
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.machine.sample import Figure, GpuSample, Sample

FIGURE = 4
"""Bytes of one."""
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
    """Appends to a run's readings. A launch that looks at the same things goes on with the file; others begin anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header: Header | None = None

    def append(self, sample: Sample) -> None:
        """Adds a row; a disk that refuses costs the row, never the run."""
        with suppress(OSError):
            if self._header is None:
                self._header = self._begin(sample)
            with self._path.open("ab") as file:
                file.write(_row(self._header, sample))

    def _begin(self, sample: Sample) -> Header:
        wanted = _header_of(sample)
        there = read_header(self._path)
        if there is not None and (there.gpus, there.folders) == (wanted.gpus, wanted.folders):
            return there
        text = json.dumps(
            {
                "began": wanted.began,
                "gpus": [[gpu.index, gpu.uuid, gpu.name, gpu.total_mib] for gpu in wanted.gpus],
                "host_total_mib": wanted.host_total_mib,
                "folders": wanted.folders,
                "columns": wanted.columns,
            }
        )
        self._path.write_bytes(text.encode() + b"\n")
        return wanted


def read_header(path: Path) -> Header | None:
    """What a file holds; None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            said = json.loads(file.readline())
        gpus = tuple(RecordedGpu(*gpu) for gpu in said["gpus"])
        return Header(said["began"], gpus, said["host_total_mib"], tuple(said["folders"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_rows(path: Path, columns: int, row: int = 0) -> "Iterator[array[float]]":
    """Rows from one on, each as long as there are columns; what is unknown is NaN.

    Args:
        path: of the file.
        columns: how many the header names.
        row: the first that is wanted.
    """
    try:
        with path.open("rb") as file:
            file.readline()
            file.seek(row * columns * FIGURE, 1)
            while len(content := file.read(columns * FIGURE)) == columns * FIGURE:
                figures = array("f", content)
                if sys.byteorder == "big":
                    figures.byteswap()
                yield figures
    except FileNotFoundError:
        return


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
    if sys.byteorder == "big":
        figures.byteswap()
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
    gpus = tuple(RecordedGpu(gpu.index, gpu.uuid, gpu.name, _number(gpu.total_mib)) for gpu in sample.gpus)
    return Header(sample.time, gpus, sample.host.total_mib, tuple(str(disk.folder) for disk in sample.disks))


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
    return _packed([_number(figure) for figure in figures])


def _packed(figures: Sequence[float]) -> bytes:
    packed = array("f", figures)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _number(figure: Figure) -> float:
    return float(figure) if isinstance(figure, int | float) else math.nan
