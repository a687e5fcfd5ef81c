"""What stands beside the question: help, the file as it grows, the cost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from simpletuner_tui.text import size, table

if TYPE_CHECKING:
    from launcher.estimate import Estimate, Part
    from launcher.machine.gpus import Gpus
    from launcher.machine.host import Host
    from simpletuner_tui.preview import Line


class Pane(VerticalScroll):
    """A titled text that scrolls."""

    def __init__(self, title: str, pane_id: str) -> None:
        super().__init__(id=pane_id, classes="pane")
        self.border_title = title

    def compose(self) -> ComposeResult:
        yield Static(markup=False)

    def show(self, content: Content | str) -> None:
        """Replaces the text and goes to its top."""
        self.query_one(Static).update(content)
        self.scroll_home(animate=False)


class FilePane(Pane):
    """A file with the lines that the last answer brought marked by a plus sign."""

    def show_file(self, name: str, lines: "Sequence[Line]") -> None:
        """Shows a file, scrolled to its first changed line."""
        self.border_title = f"File: {name}"
        text = Content("\n").join(
            Content.styled(f"+ {line.text}", "bold") if line.changed else Content(f"  {line.text}") for line in lines
        )
        self.query_one(Static).update(text)
        first = next((number for number, line in enumerate(lines) if line.changed), 0)
        self.scroll_to(y=max(0, first - 2), animate=False)


class CostPane(Pane):
    """The estimate, and what the last answer changed about it."""

    def __init__(self) -> None:
        super().__init__("Cost (estimate)", "cost")

    def show_cost(self, before: "Estimate", cost: "Estimate", gpus: "Gpus", host: "Host") -> None:
        """Shows an estimate beside the one before it, and beside what this machine has."""
        smallest = min(gpus.gpus, key=lambda gpu: gpu.total_mib, default=None)
        on_gpu = _fits(cost.gpu_mib, smallest.total_mib, smallest.free_mib) if smallest else ""
        on_host = _fits(cost.host_mib, host.total_mib, host.available_mib)
        rows = [
            ("Each GPU", size(cost.gpu_mib), _change(cost.gpu_mib - before.gpu_mib), on_gpu),
            ("Host RAM", size(cost.host_mib), _change(cost.host_mib - before.host_mib), on_host),
            ("Disk", size(cost.disk_mib), _change(cost.disk_mib - before.disk_mib), ""),
        ]
        changed = any(change for _, _, change, _ in rows)
        lines = table((name, f"{total:>9}", *([change] if changed else []), fits) for name, total, change, fits in rows)
        for title, parts in (
            ("GPU, while training", cost.phase("step").parts),
            ("GPU, at the start", cost.phase("init").parts),
            ("Host RAM", cost.host),
            ("Disk", cost.disk),
        ):
            lines += ["", title, *_parts(parts)]
        self.show("\n".join([*lines, *(f"Note: {note}." for note in cost.notes)]))


def _fits(needed: int, total: int, free: int) -> str:
    if needed > total:
        return f"does not fit in {size(total)}"
    return f"tight: {size(free)} are free" if needed > free else f"fits in {size(total)}"


def _parts(parts: "tuple[Part, ...]") -> list[str]:
    return [f"  {line}" for line in table((f"{size(part.mib):>9}", part.name) for part in parts)]


def _change(mib: int) -> str:
    return f"({mib:+,} MiB)" if mib else ""
