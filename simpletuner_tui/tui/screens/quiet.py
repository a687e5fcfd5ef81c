"""What all screens that stay share."""

from typing import TypeVar

from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget

Result = TypeVar("Result")


class QuietScreen(Screen[Result]):
    """A screen that is not drawn anew as a whole when the focus moves: over SSH that is 6 kB for two borders."""

    focused: Reactive[Widget | None] = Reactive(None, repaint=False)
