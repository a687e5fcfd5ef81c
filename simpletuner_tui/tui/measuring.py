"""This machine measured from the cost pane: begun by a key, followed beside everything else, stopped with the app."""

import asyncio
from typing import TYPE_CHECKING

from launcher.errors import LauncherError
from launcher.machine.measuring import Measuring, ToMeasure, begin

if TYPE_CHECKING:
    from simpletuner_tui.tui.quiet_app import QuietApp

POLL = 0.1
"""Seconds between two looks at the probe."""


class Measurement:
    """The one probe that an application has under way, if it has."""

    def __init__(self) -> None:
        self._probe: Measuring | None = None

    @property
    def under_way(self) -> bool:
        """Whether this machine is being measured."""
        return self._probe is not None

    async def run(self, app: "QuietApp", wanted: ToMeasure) -> None:
        """Measures, and has the costs that are shown priced again, before and after.

        Args:
            app: shows them, and says what went wrong.
            wanted: what its plan waits for.
        """
        if self._probe is not None:
            return
        try:
            self._probe = begun = begin(wanted)
            app.price_again()
            while not begun.ended:
                await asyncio.sleep(POLL)
            if self._probe is not None:  # else it was stopped
                begun.result()
        except LauncherError as error:
            app.notify(str(error), severity="error", title="Not measured", timeout=20)
        self._probe = None
        app.price_again()

    def stop(self) -> None:
        """Ends what is under way; nothing of it stays."""
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.stop()
