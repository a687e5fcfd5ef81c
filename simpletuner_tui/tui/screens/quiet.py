"""What all screens that stay share."""

from typing import TYPE_CHECKING, TypeVar

from textual import on
from textual.events import Compose
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget

if TYPE_CHECKING:
    from simpletuner_tui.hardware import Subject

Result = TypeVar("Result")


class QuietScreen(Screen[Result]):
    """A screen that sends no more than it must: over SSH every line is paid for."""

    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
    """Textual draws the whole screen anew when the focus moves: 6 kB for two borders."""

    @property
    def subject(self) -> "Subject":
        """What the machine is looked at for from here."""
        from simpletuner_tui.hardware import Subject  # noqa: PLC0415 - nobody waits for it at first

        return Subject()

    @on(Compose)
    def _fit(self) -> None:
        # Textual does this after the first picture, styles every widget again and draws all of it once more.
        width, height = self.app.size
        for breakpoints, length in ((self.HORIZONTAL_BREAKPOINTS, width), (self.VERTICAL_BREAKPOINTS, height)):
            self.add_class(*[name for least, name in breakpoints or () if least <= length][-1:])
