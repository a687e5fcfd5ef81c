"""Numbers as people read them."""

import math
import re
from collections.abc import Iterable
from typing import TextIO


def is_ascii(stream: TextIO | None) -> bool:
    """Whether what is written there has ASCII only."""
    return not (getattr(stream, "encoding", None) or "").lower().startswith("utf")


def size(mib: float) -> str:
    """Memory or disk space."""
    return f"{mib / 1024:.1f} GiB" if round(mib) >= 1024 else f"{mib:.0f} MiB"


def mib_of(text: str) -> int:
    """Memory as a person writes it, with its unit: ``12GiB``, ``24 GB``, ``8000 MiB``.

    Raises:
        ValueError: it is not written so, with a sentence for who wrote it.
    """
    written = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([MGT]i?B)\s*", text)
    if written is None or not float(written[1]):
        raise ValueError(f"{text}: write it as 12GiB")
    base, power = 1024.0 if "i" in written[2] else 1000.0, 2.0 + "MGT".index(written[2][0])
    return round(float(written[1]) * math.pow(base, power) / 2**20)


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
