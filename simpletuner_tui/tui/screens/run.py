"""The dashboard of a run: what it does now, what it did, and how it ends."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.reactive import var
from textual.widgets import Input, Static

from launcher.errors import LauncherError
from launcher.runs.checkpoint_request import request_checkpoint
from launcher.runs.directory import RunDirectory
from launcher.runs.rehearsal import rehearsal_of
from launcher.runs.state import RunStatus, status
from launcher.runs.stop import ASKED, end_now, request_stop
from simpletuner_tui.failure import why_it_failed
from simpletuner_tui.hardware import Expected, Subject
from simpletuner_tui.history import History
from simpletuner_tui.messages import left_to_itself
from simpletuner_tui.tui.glyphs import Glyphs
from simpletuner_tui.tui.screens.dialogs import ConfirmScreen
from simpletuner_tui.tui.screens.quiet import QuietScreen
from simpletuner_tui.tui.widgets.drawn import Draw, Drawn
from simpletuner_tui.tui.widgets.key_line import KeyLine
from simpletuner_tui.tui.widgets.log_view import LogView
from simpletuner_tui.tui.widgets.picture_view import PictureView
from simpletuner_tui.tui.widgets.run_lines import (
    Predicted,
    headline,
    loss_lines,
    memory_lines,
    message_lines,
    progress_line,
    step_lines,
)
from simpletuner_tui.watcher import Watcher

if TYPE_CHECKING:
    from simpletuner_tui.watcher import Look

REFRESH = 1.0
"""Seconds between two looks."""


class RunScreen(QuietScreen[None]):
    """Looks at a run's directory in a thread and draws what differs; dismissed when it is left, and the run goes on."""

    CSS_PATH = "run.tcss"
    AUTO_FOCUS = ""
    BINDINGS = [
        Binding("o", "view('overview')", "Overview"),
        Binding("l", "view('log')", "Log"),
        Binding("p", "view('pictures')", "Pictures"),
        Binding("w", "view('why')", "Why"),
        Binding("slash", "search", "Search"),
        Binding("g", "graphs", "Graphs"),
        Binding("space", "pause", "Pause"),
        Binding("c", "checkpoint", "Save"),
        Binding("s", "stop", "Stop"),
        Binding("k", "stop_now", "Kill"),
        Binding("h", "app.hardware", "Hardware"),
        Binding("q,escape", "leave", "Leave"),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-short"), (32, "-tall")]

    view = var("overview", init=False)
    """Which of the views is shown."""
    paused = var(False, init=False)
    """Whether the view stands still; the run does not care."""
    latest = var(False, init=False)
    """Whether graphs show the latest alone."""

    def __init__(
        self,
        run: RunDirectory,
        glyphs: Glyphs,
        *,
        refresh: float = REFRESH,
        read_only: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read yet.

        Args:
            run: what is looked at.
            glyphs: signs this terminal can show.
            refresh: seconds between two looks.
            read_only: whether nothing can be asked of the run from here.
            clock: seconds since the epoch.
        """
        super().__init__()
        self.run, self._glyphs = run, glyphs
        self._every, self._read_only = refresh, read_only
        self._watcher = Watcher(run, clock)
        self.history = History()
        self.status: RunStatus | None = None
        self._unwell = ""
        self._predicted = Predicted()
        self._going: bool | None = None
        """Whether it went on at the last look; None before the first."""

    @property
    def subject(self) -> Subject:
        predicted, header = self._predicted, self.history.header
        gpus = frozenset(gpu.uuid for gpu in header.gpus) if header else frozenset()
        folders = {Path(folder): 0 for folder in header.folders} if header else {}
        expected = Expected(predicted.gpu_mib, gpus, predicted.host_mib, folders, comes_on_top=False)
        return Subject(self.run.name, lambda: expected, self.history)

    def compose(self) -> ComposeResult:
        yield Drawn(id="headline")
        yield Drawn(id="progress")
        with Vertical(id="main"):
            with Vertical(id="overview"):
                with Horizontal(id="charts"):
                    yield Drawn(id="loss")
                    yield Drawn(id="memory")
                yield Drawn(id="step")
                yield Drawn(id="messages")
            yield LogView(id="log")
            yield PictureView(self._glyphs, id="pictures")
            with VerticalScroll(id="why"):
                yield Static(markup=False)
            yield Input(placeholder="search the log: Enter finds the newest, n an older one", id="search")
        yield Static("This window is too small: 60 columns and 20 rows are needed.", id="too-small")
        yield KeyLine()

    def on_mount(self) -> None:
        for pane, title in (
            ("messages", "Messages"),
            ("log", "Log"),
            ("pictures", "Pictures"),
            ("why", "Why it ended"),
        ):
            self.query_one(f"#{pane}").border_title = title
        self._title_graphs()
        self._look()
        self.set_interval(self._every, self._look)

    def _look(self) -> None:
        if not any(worker.name == "_read" and not worker.is_finished for worker in self.workers):
            self._read()  # one at a time: what one look brings, the next goes on from

    @work(thread=True, exit_on_error=False)
    def _read(self) -> None:
        if self._going is None:
            self._predicted = predicted_of(self.run)
        look = self._watcher.look()
        now, why = look.status, ""
        if self._going is not False and now is not None and now.failed and not now.going:
            why = why_it_failed(self.run, now)
        self.app.call_from_thread(self._take, look, why)

    def _take(self, look: "Look", why: str) -> None:
        """Takes in what is new.

        Args:
            look: that.
            why: the reason, where it has ended since the look before and nobody wanted that.
        """
        for event in look.events:
            self.history.take(event)
        if look.header is not None:
            for row in look.rows:
                self.history.take_row(look.header, row)
        self.query_one(LogView).add(look.log)
        before, self.status = self._going, look.status
        self._unwell = look.unwell
        if look.status is not None:
            self._going = look.status.going
            if before and not self._going:
                self.app.bell()
            if why:
                self.query_one("#why Static", Static).update(why)
                self.view = "why"
            if before != self._going:
                self.refresh_bindings()
        if self.is_active and not self.paused:
            self._draw()

    def _draw(self) -> None:
        history, predicted, glyphs = self.history, self._predicted, self._glyphs

        def show(pane: str, draw: Draw) -> None:
            self.query_one(f"#{pane}", Drawn).show(draw)

        show("headline", lambda width, _: [headline(self.run.name, self.status, self.paused, width, glyphs)])
        show("progress", lambda width, _: [progress_line(history, self.status, self._unwell, width, glyphs)])
        self.query_one(PictureView).offer(history.pictures)
        if self.view == "log":
            self.query_one(LogView).redraw()
        if self.view == "overview":
            latest = self.latest
            show("loss", lambda width, height: loss_lines(history, latest, width, height, glyphs))
            show("memory", lambda width, height: memory_lines(history, predicted, latest, width, height, glyphs))
            show("step", lambda width, _: step_lines(history, predicted, width, glyphs))
            show("messages", lambda width, height: message_lines(history, self.run, width, height, glyphs))

    def watch_view(self, before: str, now: str) -> None:
        self.set_class(False, f"-{before}")
        self.set_class(True, f"-{now}")
        if now != "overview":
            self.call_after_refresh(self.query_one(f"#{now}").focus)
        else:
            self.set_focus(None)
        self.refresh_bindings()
        self.call_after_refresh(self._draw)

    def watch_paused(self) -> None:
        self._draw()

    def watch_latest(self) -> None:
        self._title_graphs()
        self._draw()

    def on_screen_resume(self) -> None:
        if self._going is not None and not self.paused:
            self._draw()

    def _title_graphs(self) -> None:
        span = "the latest" if self.latest else "whole run"
        self.query_one("#loss").border_title = f"Loss, {span}"
        self.query_one("#memory").border_title = f"GPU memory, {span}"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action in ("checkpoint", "stop", "stop_now"):
            return bool(self._going) and not self._read_only
        if action == "view":
            (view,) = parameters
            return view != self.view and (view != "why" or (self.status is not None and self.status.failed))
        if action == "search":
            return self.view == "log"
        return action != "graphs" or self.view == "overview"

    def action_view(self, view: str) -> None:
        self.view = view

    def action_graphs(self) -> None:
        self.latest = not self.latest

    def action_pause(self) -> None:
        self.paused = not self.paused

    def action_search(self) -> None:
        self.set_class(True, "-searching")
        self.call_after_refresh(self.query_one(Input).focus)  # after the log, which may wait for the focus itself

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        log = self.query_one(LogView)
        self.set_class(False, "-searching")
        log.focus()
        if not log.search(event.value):
            self.notify(f"the log does not hold {event.value}", timeout=3)

    @work
    async def action_checkpoint(self) -> None:
        """The same for a checkpoint, after which it goes on."""
        asked = f"Save a checkpoint of {self.run.name} after this step? It goes on afterwards."
        if await self.app.push_screen_wait(ConfirmScreen(asked, yes="Save it", no="Go on")):
            try:
                request_checkpoint(self.run, status(self.run))
                self.notify("It finishes the step, saves and goes on.")
            except LauncherError as error:
                self.notify(str(error), severity="warning")

    @work
    async def action_stop(self) -> None:
        """Asks once more, then asks the run."""
        saves = "" if rehearsal_of(self.run) else ", saves a checkpoint, however long that takes,"
        asked = f"Stop {self.run.name}? It finishes the step{saves} and ends."
        if await self.app.push_screen_wait(ConfirmScreen(asked, yes="Stop it", no="Go on")):
            request_stop(self.run, ASKED)
            self.notify(f"It finishes the step{saves} and ends.")

    @work
    async def action_stop_now(self) -> None:
        """The same at once, without a checkpoint."""
        done = self.history.progress.step.get("step")
        lost = f" What it trained since its last checkpoint, up to step {done:,}, is lost." if done else ""
        asked = f"End {self.run.name} at once, without a checkpoint?{lost}"
        if await self.app.push_screen_wait(ConfirmScreen(asked, yes="End it now", no="Go on")):
            await asyncio.to_thread(end_now, self.run, self.status.orphans if self.status else ())
            self.notify("It is ended.")

    def action_leave(self) -> None:
        """Closes the search, goes back to the overview, or leaves: the run goes on."""
        if self.has_class("-searching"):
            self.set_class(False, "-searching")
            self.query_one(LogView).focus()
        elif self.view != "overview":
            self.view = "overview"
        else:
            self.dismiss(None)

    @property
    def told(self) -> str | None:
        """What is to be said once the terminal is back."""
        return left_to_itself(self.run.name) if self._going else None


def predicted_of(run: RunDirectory) -> Predicted:
    """What the plan of a run said it takes; nothing where it says nothing that can be read."""
    try:
        estimate = run.trains().plan()["estimate"]
        return Predicted(int(estimate["gpu_mib"]), int(estimate["host_mib"]), estimate.get("step_seconds"))
    except (LauncherError, KeyError, TypeError, ValueError):  # none, or of another version
        return Predicted()
