"""The cost pane: what answers so far take of a card, and what the last one changed about it."""

import asyncio
import time
from collections.abc import Callable
from textwrap import wrap
from typing import TYPE_CHECKING, cast

from textual import work
from textual.app import ComposeResult
from textual.content import Content
from textual.geometry import Region, Size
from textual.timer import Timer
from textual.widget import Widget
from textual.worker import Worker, WorkerState, get_current_worker

from simpletuner_tui.tui.glyphs import Glyphs
from simpletuner_tui.tui.setup import CardChoice
from simpletuner_tui.tui.widgets.gpu_line import MOVED_MIB
from simpletuner_tui.tui.widgets.panes import Pane

if TYPE_CHECKING:
    from launcher.config.settings import Settings
    from launcher.estimate.traces import UNetStep
    from launcher.machine.gpus import Gpus
    from launcher.preflight import Machine
    from simpletuner_tui.pricing import Priced
    from simpletuner_tui.tui.quiet_app import QuietApp

PATIENCE = 0.1
"""Seconds after which it is said that a figure is still to come."""

# What prices a plan and what words its cost are loaded with the first price, not before the first question.


class CostView(Widget):
    """A priced plan at whatever width there is; repaints no more than the lines that differ."""

    DEFAULT_CSS = "CostView { height: auto; }"

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._priced: Priced | None = None
        self._told = ""
        self._measures = False
        self._drawn: dict[int, list[Content]] = {}
        """Lines by the width they were made for."""

    def show(self, priced: "Priced | None", told: str = "", *, measures: bool = False) -> None:
        """Shows a plan.

        Args:
            priced: the plan; None: nothing is known of it.
            told: what is said in place of its verdict.
            measures: whether this machine is being measured.
        """
        width = self.content_size.width
        before = self._lines(width)
        self._priced, self._told, self._measures = priced, told, measures
        self._drawn.clear()
        now = self._lines(width)
        if len(now) != len(before):
            self.refresh(layout=True)
        elif changed := [row for row, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1]]:
            self.refresh(*(Region(0, row, width, 1) for row in changed))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines(width))

    def render(self) -> Content:
        return Content("\n").join(self._lines(self.content_size.width))

    def _lines(self, width: int) -> list[Content]:
        if width not in self._drawn:
            self._drawn[width] = self._made(width) if width else []
        return self._drawn[width]

    def _made(self, width: int) -> list[Content]:
        if self._priced is None:
            return [Content.styled(line, "bold") for line in wrap(self._told, width)]
        from simpletuner_tui.tui.widgets.cost_lines import cost_lines  # noqa: PLC0415

        return cost_lines(self._priced, width, self._glyphs, self._told, measures=self._measures)


class CostPane(Pane):
    """Prices what it is given in a thread, and shows it."""

    def __init__(self, machine: "Callable[[], Machine]", choice: CardChoice, glyphs: Glyphs, assumed: str = "") -> None:
        """Nothing is priced yet.

        Args:
            machine: what it would run on.
            choice: the card it is held against.
            glyphs: signs this terminal can show.
            assumed: what of the run nobody said, in a few words.
        """
        self._title, self._says_speed = f"Cost (estimate{f', {assumed}' if assumed else ''})", not assumed
        super().__init__(self._title, "cost")
        self._machine, self._choice, self._glyphs = machine, choice, glyphs
        self._asked: tuple[Callable[[], Settings], Callable[[], Settings]] | None = None
        self._patience: Timer | None = None
        self.priced: Priced | None = None
        """What is shown, or was until its price was asked for again."""

    def compose(self) -> ComposeResult:
        yield CostView(self._glyphs)

    def price(self, before: "Callable[[], Settings]", now: "Callable[[], Settings]") -> None:
        """Prices a plan and the one before; what is shown follows.

        Args:
            before: reads the settings at the answer before; called in the thread, since it may read a file.
            now: reads those of the run.
        """
        self._asked = before, now
        self.price_again()

    def price_again(self) -> None:
        """The same plan, where the card may be another."""
        if self._asked:
            self._stop_waiting()
            self._patience = self.set_timer(PATIENCE, self._say_measuring)
            self._price(*self._asked)

    @property
    def _app(self) -> "QuietApp":
        return cast("QuietApp", self.app)

    @work(exit_on_error=False)
    async def measure(self) -> None:
        """Begins to measure this machine where the seconds of a step wait for that; else says why it does not."""
        if self._asked is None or self._app.measures:  # what is shown in its place says why, or that it is under way
            return
        from simpletuner_tui.costs import why_not_measured  # noqa: PLC0415
        from simpletuner_tui.pricing import price  # noqa: PLC0415

        machine, settings = self._machine(), await asyncio.to_thread(self._asked[1])
        priced = await asyncio.to_thread(price, settings, settings, machine, self._choice.gigabytes)
        if priced.to_measure is not None:
            self._app.measure(priced.to_measure)
        else:
            self.notify(why_not_measured(priced))

    def withhold(self, why: str) -> None:
        """Shows no cost.

        Args:
            why: in a sentence.
        """
        self._asked = None
        self.workers.cancel_group(self, "cost")
        self._end(None, why)

    def follow(self, gpus: "Gpus") -> None:
        """Holds the plan against this machine's GPUs again where others have taken or given back a good deal."""
        if self.priced is None or self.priced.card is None or not self.priced.card.model:
            return
        free = {gpu.uuid: gpu.free_mib for gpu in gpus.gpus}
        if any(abs(free.get(gpu.uuid, 0) - gpu.free_mib) >= MOVED_MIB for gpu in self.priced.gpus.gpus):
            self.price_again()

    @work(thread=True, exclusive=True, group="cost", exit_on_error=False)
    def _price(self, before: "Callable[[], Settings]", now: "Callable[[], Settings]") -> None:
        from simpletuner_tui.pricing import price  # noqa: PLC0415

        worker = get_current_worker()
        priced = price(before(), now(), self._machine(), self._choice.gigabytes)
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show, priced)

    def _show(self, priced: "Priced") -> None:
        if not self.is_attached:  # it may have been left since
            return
        self._end(priced, self._measuring("by a formula") if priced.to_trace else "")
        if priced.to_trace:
            self._trace(priced.to_trace)

    @work(thread=True, exclusive=True, group="trace", exit_on_error=False)
    def _trace(self, step: "UNetStep") -> None:
        """Waits until a step is traced, by a process that goes on where nobody waits any more."""
        from launcher.estimate.traces import make  # noqa: PLC0415

        worker = get_current_worker()
        for _ in make(step):
            if worker.is_cancelled:
                return
            time.sleep(PATIENCE)
        self.app.call_from_thread(self.price_again)

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        event.stop()
        if event.state is WorkerState.ERROR:
            self._end(None, f"Not known: {event.worker.error}")

    def _end(self, priced: "Priced | None", told: str = "") -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        self.priced = priced
        self.query_one(CostView).show(priced, told, measures=self._app.measures)
        title = f"{self._title}{self._on_speed(priced)}" if priced else self._title
        if title != self.border_title:
            self.border_title = title
        subtitle = self._held_against(priced) if priced else ""
        if subtitle != self.border_subtitle:  # a border is drawn with all that it is around
            self.border_subtitle = subtitle

    def _say_measuring(self) -> None:
        self.query_one(CostView).show(
            self.priced, self._measuring("the answer before" if self.priced else ""), measures=self._app.measures
        )

    def _measuring(self, below: str) -> str:
        return f"measuring{self._glyphs.ellipsis}{f' (below: {below})' if below else ''}"

    def _stop_waiting(self) -> None:
        """Ends the wait that something was said after."""
        if self._patience is not None:
            self._patience.stop()
            self._patience = None

    def _on_speed(self, priced: "Priced") -> str:
        """That it could be known, in sight where the pane is short of rows and the title has room."""
        if priced.to_measure is None or not self._says_speed:
            return ""
        what = f"measuring this machine{self._glyphs.ellipsis}" if self._app.measures else "F10: seconds a step"
        return f" {self._glyphs.between} {what}"

    def _held_against(self, priced: "Priced") -> str:
        if not priced.uses_gpu:
            return ""
        card = priced.card
        if self._choice.gigabytes is None and not priced.gpus.gpus:
            what = "no GPU here"
        else:
            what = card.model.removeprefix("NVIDIA ") or card.name if card else ""
        return f"F9: another card {self._glyphs.between} {what}"
