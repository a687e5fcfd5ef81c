"""The DeepSpeed builder as an application of its own: one file in, the file mended out."""

import asyncio
import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from textual import work
from textual.app import App
from textual.binding import Binding
from textual.driver import Driver

from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.run_facts import RunFacts
from launcher.errors import ExitCode
from simpletuner_tui.builder import Builder
from simpletuner_tui.messages import tell
from simpletuner_tui.tui.driver import TolerantDriver
from simpletuner_tui.tui.glyphs import ASCII, Glyphs
from simpletuner_tui.tui.screens.builder import BuilderScreen
from simpletuner_tui.tui.screens.dialogs import ConfirmScreen
from simpletuner_tui.tui.setup import _glyphs

DEFAULT = Path("deepspeed.json")
"""Where a configuration is saved that came from no file."""


class BuilderApp(App[Path]):
    """Shows the builder alone. Returns where it was saved, if it was."""

    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False  # the search finds every field
    BINDINGS = [
        Binding("ctrl+q", "leave", "Quit", priority=True),
        Binding("ctrl+c", "leave", show=False, priority=True),
    ]

    def __init__(self, builder: Builder, path: Path, glyphs: Glyphs, driver_class: type[Driver] | None = None) -> None:
        self._glyphs = glyphs
        super().__init__(driver_class=driver_class)
        self.title = "simpletuner-tui"
        self.animation_level = "none"  # over SSH every frame is paid for
        self._editing = BuilderScreen(builder, glyphs, path)

    def get_css_variables(self) -> dict[str, str]:
        """Frames are drawn with what the terminal has."""
        return {**super().get_css_variables(), "frame": "ascii" if self._glyphs is ASCII else "round"}

    def on_mount(self) -> None:
        loop = asyncio.get_running_loop()
        for number, code in ((signal.SIGHUP, ExitCode.HANGUP), (signal.SIGTERM, ExitCode.CANCELLED)):
            loop.add_signal_handler(number, partial(self.exit, return_code=int(code)))
        self._edit()

    @work
    async def _edit(self) -> None:
        await self.push_screen_wait(self._editing)
        self.exit(self._editing.saved)

    def action_leave(self) -> None:
        """Leaves as F2 does; asked again it stays."""
        if isinstance(self.screen, ConfirmScreen):
            self.screen.dismiss(False)
        elif self.screen is self._editing:
            self._editing.action_cancel()


def build(path: Path | None, config: Mapping[str, Any], run: RunFacts) -> ExitCode:
    """Edits a configuration in full screen and saves it to a file.

    Args:
        path: where it came from and is saved unless another place is given; None: from nowhere.
        config: DeepSpeed's JSON as an object, as it was written.
        run: the run it belongs to.
    """
    builder = Builder(config, run, read_installed())
    app = BuilderApp(builder, path or DEFAULT, _glyphs(), driver_class=TolerantDriver)
    saved = app.run()
    if app.return_code == ExitCode.HANGUP:
        os._exit(ExitCode.HANGUP)  # what is left to be written has nowhere to go, and Python would complain of it
    tell("Nothing was written." if saved is None else f"Saved. deepspeed.initialize takes {saved} as it is.")
    return ExitCode(app.return_code or 0)
