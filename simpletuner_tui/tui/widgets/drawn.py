"""A widget that is drawn line by line, and repaints no more than the columns that differ."""

from collections.abc import Callable, Sequence

from textual.content import Content
from textual.geometry import Region
from textual.widget import Widget

Draw = Callable[[int, int], Sequence[Content]]
"""Makes lines for so many columns and rows."""


class Drawn(Widget):
    """Shows what a function makes of the room there is. Over SSH every column that is sent again is paid for."""

    DEFAULT_CSS = "Drawn { height: 1fr; }"

    def __init__(self, draw: Draw | None = None, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._draw = draw
        self._lines: list[Content] = []

    def show(self, draw: Draw) -> None:
        """Draws something else from now on."""
        self._draw = draw
        self.redraw()

    def redraw(self) -> None:
        """Draws the same as it is now."""
        before, self._lines = self._lines, self._made()
        if len(before) != len(self._lines):
            self.refresh()
            return
        for row, (old, new) in enumerate(zip(before, self._lines, strict=True)):
            if (span := changed_columns(old, new)) is not None:
                self.refresh(Region(span[0], row, span[1] - span[0], 1))

    def on_resize(self) -> None:
        self._lines = self._made()
        self.refresh()

    def render(self) -> Content:
        return Content("\n").join(self._lines)

    def _made(self) -> list[Content]:
        width, height = self.content_size
        return list(self._draw(width, height))[:height] if self._draw and width and height else []


def changed_columns(old: Content, new: Content) -> tuple[int, int] | None:
    """The columns that differ between two states of a line, first and one past the last; None where none does."""
    if old.plain == new.plain and old.spans == new.spans:
        return None
    width = max(old.cell_length, new.cell_length)
    if old.cell_length != len(old.plain) or new.cell_length != len(new.plain):
        return 0, width  # where signs are wider than a column, places in the text are no columns
    before, now = _cells(old, width), _cells(new, width)
    differ = [column for column in range(width) if before[column] != now[column]]
    return (differ[0], differ[-1] + 1) if differ else None


def _cells(line: Content, width: int) -> list[tuple[object, ...]]:
    cells: list[tuple[object, ...]] = [(sign,) for sign in line.plain.ljust(width)]
    for span in line.spans:
        for column in range(span.start, min(span.end, width)):
            cells[column] += (span.style,)
    return cells
