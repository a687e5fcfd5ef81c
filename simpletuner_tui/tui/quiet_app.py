"""What the full-screen applications share: a terminal over SSH, which may go away at any time."""

import asyncio
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from textual import work
from textual.app import App
from textual.binding import Binding
from textual.driver import Driver
from textual.screen import Screen

from launcher.errors import ExitCode
from simpletuner_tui.messages import tell
from simpletuner_tui.tui.glyphs import ASCII, Glyphs
from simpletuner_tui.tui.widgets.cost_pane import CostPane

if TYPE_CHECKING:
    from launcher.machine.measuring import ToMeasure
    from simpletuner_tui.tui.measuring import Measurement


class QuietApp(App[str | None]):
    """Moves nothing by itself. Returns what is to be said once it is left, if anything is."""

    CSS_PATH = ["app.tcss"]
    BINDINGS = [
        Binding("ctrl+q", "leave", "Quit", priority=True),
        Binding("ctrl+c", "leave", show=False, priority=True),
    ]

    def __init__(self, glyphs: Glyphs, driver_class: type[Driver] | None = None) -> None:
        self.glyphs = glyphs
        super().__init__(driver_class=driver_class)
        self.title = "simpletuner-tui"
        self.animation_level = "none"  # over SSH every frame is paid for
        self._measurement: Measurement | None = None

    def get_css_variables(self) -> dict[str, str]:
        """Frames are drawn with what the terminal has."""
        return {**super().get_css_variables(), "frame": "ascii" if self.glyphs is ASCII else "round"}

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number, code in ((signal.SIGHUP, ExitCode.HANGUP), (signal.SIGTERM, ExitCode.CANCELLED)):
            # What is worth keeping was kept at the last step; all that is left to do is leave.
            loop.add_signal_handler(number, partial(self.exit, return_code=int(code)))

    @property
    def _background_screens(self) -> list[Screen[Any]]:
        """The screens that shine through the one on top.

        Textual counts the one below it always: whatever changed there had all that is above drawn anew.
        """
        opaque = bool(self._screen_stack) and self.screen.styles.background.a == 1
        return [] if opaque else super()._background_screens

    def on_unmount(self) -> None:
        self.stop_measuring()

    def stop_measuring(self) -> None:
        """Ends a measurement that is under way; nothing of it stays."""
        if self._measurement is not None:
            self._measurement.stop()

    @property
    def measures(self) -> bool:
        """Whether this machine is being measured."""
        return self._measurement is not None and self._measurement.under_way

    @work
    async def measure(self, wanted: "ToMeasure") -> None:
        """Measures this machine, unless that is under way; whichever screen is left meanwhile.

        Args:
            wanted: what a plan waits for.
        """
        if self._measurement is None:
            from simpletuner_tui.tui.measuring import Measurement  # noqa: PLC0415 - few measure

            self._measurement = Measurement()
        await self._measurement.run(self, wanted)

    def price_again(self) -> None:
        """The costs that are shown, where this machine may be known better."""
        for screen in self.screen_stack:
            for pane in screen.query(CostPane):
                pane.price_again()

    def run_and_tell(self) -> ExitCode:
        """Runs to its end, and says what came of it where it can still be seen."""
        outcome = self.run()
        if self.return_code == ExitCode.HANGUP:
            os._exit(ExitCode.HANGUP)  # what is left to be written has nowhere to go, and Python would complain of it
        if outcome is not None:
            tell(outcome)
        return ExitCode(self.return_code or 0)
