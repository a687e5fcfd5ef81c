"""Numbers as people read them."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from launcher.estimate import Estimate, Part


def is_ascii(stream: TextIO | None) -> bool:
    """Whether what is written there has ASCII only."""
    return not (getattr(stream, "encoding", None) or "").lower().startswith("utf")


def size(mib: float) -> str:
    """Memory or disk space."""
    return f"{mib / 1024:.1f} GiB" if round(mib) >= 1024 else f"{mib:.0f} MiB"


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


def estimate_lines(cost: "Estimate") -> list[str]:
    """An estimate, part by part."""
    lines = [
        *_cost("GPU memory, each GPU, while training", cost.phase("step").parts),
        *_cost("GPU memory, each GPU, at the start", cost.phase("init").parts),
        *_cost("Host RAM", cost.host),
        *_cost("Disk", cost.disk),
    ]
    return lines + [f"Note: {note}." for note in cost.notes]


def _cost(title: str, parts: "tuple[Part, ...]") -> list[str]:
    total = size(sum(part.mib for part in parts))
    return [f"{title}: {total}", *(f"  {line}" for line in table((part.name, size(part.mib)) for part in parts))]
