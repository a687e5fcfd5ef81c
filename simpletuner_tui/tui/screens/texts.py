"""Screens that only tell."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static


class TextScreen(ModalScreen[None]):
    """A long text; any of Enter, q and Esc closes it."""

    CSS_PATH = "texts.tcss"
    BINDINGS = [Binding("enter,q,escape,f1", "close", "Close")]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="text") as scroll:
            scroll.border_title = self._title
            scroll.border_subtitle = "arrows scroll, Enter closes"
            yield Static(self._text, markup=False)

    def on_mount(self) -> None:
        self.query_one(VerticalScroll).focus()

    def action_close(self) -> None:
        self.dismiss(None)
