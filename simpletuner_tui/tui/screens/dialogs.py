"""Small questions of the application itself: yes or no, a path, one of a few."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, OptionList, Static
from textual.widgets.option_list import Option

from simpletuner_tui.questions.model import Typed
from simpletuner_tui.tui.widgets.fields import Answered, Edited, PathField

if TYPE_CHECKING:
    from simpletuner_tui.saving import Saving


class ConfirmScreen(ModalScreen[bool]):
    """A question with two answers; the careful one has the focus."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [
        Binding("escape", "answer(False)", "Cancel"),
        Binding("y", "answer(True)", show=False),
        Binding("n", "answer(False)", show=False),
        Binding("left,right", "app.focus_next", show=False),
    ]

    def __init__(self, text: str, *, yes: str, no: str = "Cancel", details: Content | None = None) -> None:
        """Nothing is shown yet.

        Args:
            text: what is asked.
            yes: the button that goes ahead.
            no: the button that does not.
            details: what it is about, such as a diff; scrolls.
        """
        super().__init__()
        self._text, self._yes, self._no, self._details = text, yes, no, details

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._text, classes="asked", markup=False)
            if self._details is not None:
                with VerticalScroll(classes="details"):
                    yield Static(self._details)
            with Horizontal(classes="buttons"):
                yield Button(self._no, id="no", compact=True)
                yield Button(self._yes, id="yes", compact=True)

    def on_mount(self) -> None:
        self.query_one("#no", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        self.dismiss(answer)


async def confirm_replacing(app: App[Any], planned: "Saving") -> bool:
    """Shows what would change in a file that is there, and asks whether it may."""
    styles = {"+": "$text-success", "-": "$text-error", "@": "$text-muted"}
    details = Content("\n").join(Content.styled(line, styles.get(line[:1], "")) for line in planned.diff())
    asked = f"{planned.path} is there already. Replace it? What is there is kept as {planned.backup.name}."
    return await app.push_screen_wait(ConfirmScreen(asked, yes="Replace", details=details))


class PathScreen(ModalScreen[str | None]):
    """Asks for a path; None when it is cancelled."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, text: str, suggestion: str) -> None:
        super().__init__()
        self._text, self._suggestion = text, suggestion

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._text, classes="asked", markup=False)
            yield PathField(self._suggestion)
            yield Static("Enter takes it, Tab completes, Esc cancels.", classes="hint")

    def on_mount(self) -> None:
        self.query_one(PathField).focus()

    def on_edited(self, event: Edited) -> None:
        event.stop()

    def on_answered(self, event: Answered) -> None:
        event.stop()
        if isinstance(event.answer, Typed):
            self.dismiss(str(event.answer))

    def action_cancel(self) -> None:
        self.dismiss(None)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that may be chosen."""

    key: str
    title: str
    details: str = ""

    @property
    def text(self) -> str:
        """As it is listed."""
        return f"{self.title}\n  {self.details}" if self.details else self.title


class ChooseScreen(ModalScreen[str | None]):
    """One of a few, each with a sentence about it; None when it is cancelled."""

    CSS_PATH = "dialogs.tcss"
    BINDINGS = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, text: str, rows: Sequence[Row], chosen: str | None = None) -> None:
        """Nothing is shown yet.

        Args:
            text: what is asked.
            rows: what may be chosen.
            chosen: the key of the row that is in force.
        """
        super().__init__()
        self._text, self._rows, self._chosen = text, rows, chosen

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._text, classes="asked", markup=False)
            yield OptionList(*(Option(Content(row.text), id=row.key) for row in self._rows), compact=True)

    def on_mount(self) -> None:
        rows = self.query_one(OptionList)
        rows.focus()
        if self._chosen is not None:
            rows.highlighted = rows.get_option_index(self._chosen)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_id)

    def action_cancel(self) -> None:
        self.dismiss(None)
