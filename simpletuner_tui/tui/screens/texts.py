"""Screens that only tell."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from launcher.runs.directory import RunDirectory
from simpletuner_tui.tui.widgets.key_line import KeyLine


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


class LaunchedScreen(Screen[None]):
    """A run was started; it needs neither this screen nor this terminal."""

    CSS_PATH = "texts.tcss"
    BINDINGS = [Binding("enter", "close", "Show it"), Binding("q", "app.leave", "Leave")]

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._run = run

    def compose(self) -> ComposeResult:
        name = self._run.name
        lines = [
            f"{name} was started. It goes on without this terminal.",
            "",
            f"follow it   simpletuner-tui attach {name}",
            f"stop it     simpletuner-tui stop {name}",
            "",
            "its log",
            f"  {self._run.log}",
            "its folder",
            f"  {self._run.path}",
            "",
            "Enter shows it, Q leaves.",
        ]
        with Vertical(classes="launched"):
            yield Static("\n".join(lines), markup=False)
        yield KeyLine()

    def action_close(self) -> None:
        self.dismiss(None)
