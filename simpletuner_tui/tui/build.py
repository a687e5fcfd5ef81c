"""The DeepSpeed builder as an application of its own: one file in, the file mended out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textual import work
from textual.driver import Driver

from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.run_facts import RunFacts
from launcher.errors import ExitCode
from simpletuner_tui.builder.model import Builder
from simpletuner_tui.tui.driver import TolerantDriver
from simpletuner_tui.tui.glyphs import Glyphs, glyphs_here
from simpletuner_tui.tui.quiet_app import QuietApp
from simpletuner_tui.tui.screens.builder import BuilderScreen
from simpletuner_tui.tui.screens.dialogs import ConfirmScreen

DEFAULT = Path("deepspeed.json")
"""Where a configuration is saved that came from no file of its own."""


class BuilderApp(QuietApp):
    """Shows the builder alone."""

    ENABLE_COMMAND_PALETTE = False  # the search finds every field

    def __init__(self, builder: Builder, path: Path, glyphs: Glyphs, driver_class: type[Driver] | None = None) -> None:
        super().__init__(glyphs, driver_class)
        self._editing = BuilderScreen(builder, glyphs, path)

    def on_mount(self) -> None:
        self._edit()

    @work
    async def _edit(self) -> None:
        await self.push_screen_wait(self._editing)
        saved = self._editing.saved
        self.exit("Nothing was written." if saved is None else f"Saved. deepspeed.initialize takes {saved} as it is.")

    def action_leave(self) -> None:
        """Leaves as F2 does; asked again it stays."""
        if isinstance(self.screen, ConfirmScreen):
            self.screen.dismiss(False)
        elif self.screen is self._editing:
            self._editing.action_cancel()


def build(path: Path | None, config: Mapping[str, Any], run: RunFacts) -> ExitCode:
    """Edits a configuration in full screen and saves it to a file.

    Args:
        path: the file of its own it came from, where it is saved unless another place is given; None: there is none.
        config: DeepSpeed's JSON as an object, as it was written.
        run: the run it belongs to.
    """
    builder = Builder(config, run, read_installed())
    return BuilderApp(builder, path or DEFAULT, glyphs_here(), driver_class=TolerantDriver).run_and_tell()
