"""A run's dashboard as an application of its own."""

from textual.driver import Driver

from launcher.runs.directory import RunDirectory
from simpletuner_tui.tui.driver import driver_here
from simpletuner_tui.tui.glyphs import Glyphs, glyphs_here
from simpletuner_tui.tui.quiet_app import QuietApp
from simpletuner_tui.tui.screens.run import REFRESH, RunScreen


class AttachApp(QuietApp):
    """Shows one run until it is left."""

    def __init__(self, screen: RunScreen, glyphs: Glyphs, driver_class: type[Driver] | None = None) -> None:
        super().__init__(glyphs, driver_class)
        self._shown = screen

    def on_mount(self) -> None:
        self.push_screen(self._shown, lambda _: self.exit(self._shown.told))

    def action_leave(self) -> None:
        """The run goes on."""
        self.exit(self._shown.told)


def attach_app(run: RunDirectory, *, refresh: float | None, read_only: bool) -> AttachApp:
    """The application for a terminal.

    Args:
        run: what it shows.
        refresh: seconds between two looks.
        read_only: whether nothing can be asked of the run from here.
    """
    glyphs = glyphs_here()
    return AttachApp(RunScreen(run, glyphs, refresh=refresh or REFRESH, read_only=read_only), glyphs, driver_here())
