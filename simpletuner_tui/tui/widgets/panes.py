"""What stands beside the question: help, the file as it grows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

if TYPE_CHECKING:
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
