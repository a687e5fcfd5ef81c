"""Numbers as people read them."""

import re
from collections.abc import Iterable
from typing import TextIO


def is_ascii(stream: TextIO | None) -> bool:
    """Whether what is written there has ASCII only."""
    return not (getattr(stream, "encoding", None) or "").lower().startswith("utf")


def size(mib: float) -> str:
    """Memory or disk space."""
    return f"{mib / 1024:.1f} GiB" if round(mib) >= 1024 else f"{mib:.0f} MiB"


UNITS = {"TiB": 2.0**20, "GiB": 1024.0, "MiB": 1.0, "TB": 1e12 / 2**20, "GB": 1e9 / 2**20, "MB": 1e6 / 2**20}
"""MiB of each."""


def mib_of(text: str) -> int:
    """MiB of a size as people type it: ``12GiB``, ``12 GB``, ``11500MiB``.

    Raises:
        ValueError: with a sentence for the person.
    """
    match = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([A-Za-z]+)\s*", text)
    units = {unit.lower(): mib for unit, mib in UNITS.items()}
    if match is None or match[2].lower() not in units:
        raise ValueError(f"a size with its unit is needed, such as 12GiB, 11500MiB or 12.9GB, not {text}")
    mib = int(float(match[1]) * units[match[2].lower()])
    if mib < 1:
        raise ValueError(f"{text} is less than a MiB")
    return mib


def duration(seconds: float) -> str:
    """A span of time, in its two largest units."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def bar(done: float, total: float, width: int, *, ascii_only: bool) -> str:
    """A progress bar ``width`` characters wide."""
    filled = int(width * min(1.0, done / total)) if total else 0
    full, empty = ("#", ".") if ascii_only else ("█", "░")
    return full * filled + empty * (width - filled)


def printable(text: str) -> str:
    """A text from elsewhere, such as a file's name, so that no terminal takes a part of it for a command."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def table(rows: Iterable[Iterable[str]]) -> list[str]:
    """Rows with their columns aligned; the last one is left as long as it is."""
    listed = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*listed, strict=True)] if listed else []
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in listed]
