"""A run's log: it follows what is written, until somebody scrolls or searches."""

from collections import deque
from collections.abc import Sequence

from textual.binding import Binding
from textual.content import Content

from simpletuner_tui.tui.widgets.drawn import Drawn

KEPT = 20_000
"""Lines that can be scrolled through; the file has all of them."""


class LogView(Drawn, can_focus=True):
    """Lines, the newest at the bottom; long ones are cut, since a log is looked through from top to bottom."""

    DEFAULT_CSS = "LogView { height: 1fr; }"
    BINDINGS = [
        Binding("up", "scroll(1)", show=False),
        Binding("down", "scroll(-1)", show=False),
        Binding("pageup", "page(1)", show=False),
        Binding("pagedown", "page(-1)", show=False),
        Binding("home", "first", show=False),
        Binding("f,end", "follow", "Follow"),
        Binding("n", "next", "Next match"),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(self._drawn, id=id)
        self._kept: deque[str] = deque(maxlen=KEPT)
        self._above = 0
        """Lines below the window; 0: it follows."""
        self._wanted = ""
        self._at: int | None = None
        """The match that is shown, counted from the end."""

    @property
    def follows(self) -> bool:
        """Whether new lines show by themselves."""
        return self._above == 0

    def add(self, lines: Sequence[str]) -> None:
        """More of the log, which is not drawn yet; what is looked at stays where it is, as long as it is kept."""
        self._kept.extend(lines)
        if not self.follows:
            self._above = min(self._above + len(lines), max(1, len(self._kept) - self.content_size.height))
        if self._at is not None:
            self._at = self._at + len(lines) if self._at + len(lines) < len(self._kept) else None

    def search(self, text: str) -> bool:
        """Shows the newest line that holds a text, in any case of letters; false where none does."""
        self._wanted, self._at = text.lower(), None
        return not text or self._find()

    def action_next(self) -> None:
        """The next older match, and from the oldest one back to the newest."""
        if self._wanted and not self._find() and self._at is not None:
            self._at = None
            self._find()

    def action_scroll(self, lines: int) -> None:
        self._go(self._above + lines)

    def action_page(self, pages: int) -> None:
        self._go(self._above + pages * max(1, self.content_size.height - 1))

    def action_first(self) -> None:
        self._go(len(self._kept))

    def action_follow(self) -> None:
        self._at = None
        self._go(0)

    def _go(self, above: int) -> None:
        self._above = max(0, min(above, len(self._kept) - self.content_size.height))
        self.redraw()

    def _find(self) -> bool:
        begin = 0 if self._at is None else self._at + 1
        lines = list(self._kept)[::-1]
        for place in range(begin, len(lines)):
            if self._wanted in lines[place].lower():
                self._at = place
                self._go(place - self.content_size.height // 2)
                self.redraw()
                return True
        return False

    def _drawn(self, width: int, height: int) -> list[Content]:
        end = len(self._kept) - self._above
        shown = list(self._kept)[max(0, end - height) : end]
        marked = None if self._at is None else len(self._kept) - 1 - self._at - max(0, end - height)
        return [self._line(line[:width], place == marked) for place, line in enumerate(shown)]

    def _line(self, line: str, marked: bool) -> Content:
        found = line.lower().find(self._wanted) if self._wanted else -1
        if found < 0:
            return Content.styled(line, "bold" if marked else "")
        end = found + len(self._wanted)
        return Content.assemble(line[:found], (line[found:end], "bold reverse" if marked else "underline"), line[end:])
