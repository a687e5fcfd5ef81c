"""The hardware: every GPU, host memory and disks, as they are, and what a plan or a run takes of them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.content import Content
from textual.reactive import var
from textual.widgets import Static

from launcher.errors import LauncherError
from launcher.machine.sample import GpuSample
from launcher.machine.sampler import INTERVAL, Samples
from simpletuner_tui.hardware import Expected, Subject
from simpletuner_tui.tui.glyphs import ASCII, Glyphs
from simpletuner_tui.tui.screens.quiet import QuietScreen
from simpletuner_tui.tui.widgets.drawn import Drawn
from simpletuner_tui.tui.widgets.hardware_lines import (
    disks_told,
    gpu_details,
    gpu_lines,
    host_lines,
    names,
    state_line,
    two_minutes,
    whole_run,
)
from simpletuner_tui.tui.widgets.key_line import KeyLine

FRAME = 2
"""Rows that a border takes."""
DETAILS, LEAST = 6, 2
"""Rows of details, and the least."""
GRAPH = 6
"""Rows, with its border, from which on a graph is worth drawing beside all else."""


class HardwareScreen(QuietScreen[None]):
    """Draws what a sampler's thread has read, and no more than has changed; nothing while it is hidden."""

    CSS_PATH = "hardware.tcss"
    AUTO_FOCUS = ""
    BINDINGS = [
        Binding("up", "choose(-1)", "GPU before", key_display="up"),
        Binding("down", "choose(1)", "GPU after", key_display="down"),
        Binding("g", "graphs", "Graphs"),
        Binding("q,escape", "leave", "Leave"),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-short"), (32, "-tall")]

    chosen = var(0, init=False)
    """The place of the GPU that details and graphs are of."""
    graphs = var(False, init=False)
    """Whether graphs take the place of details, where there is no room for both."""

    def __init__(
        self,
        samples: Samples,
        subject: Subject,
        glyphs: Glyphs,
        want: Callable[[Sequence[Path]], object] = lambda _: None,
        refresh: float = INTERVAL,
    ) -> None:
        """Nothing is drawn yet.

        Args:
            samples: what the machine showed.
            subject: what it is looked at for.
            glyphs: signs this terminal can show.
            want: is told below which folders disks are to be looked at.
            refresh: seconds between two looks at the samples.
        """
        super().__init__()
        self._samples, self._subject, self._glyphs, self._want = samples, subject, glyphs, want
        self._every = refresh
        self._expected: Expected | None = None
        self._rows: dict[str, int] = {}
        """Of each part that has as many as it needs."""
        self._crowded = False
        """Whether there is no room for graphs beside details."""
        self._several = False
        """Whether there are GPUs to choose from."""

    def compose(self) -> ComposeResult:
        yield Static(f"simpletuner-tui {self._glyphs.between} hardware", id="title", markup=False)
        yield Drawn(id="state")
        yield Drawn(id="gpus")
        yield Drawn(id="detail")
        yield Drawn(id="host")
        with Horizontal(id="graphs"):
            yield Drawn(id="recent")
            yield Drawn(id="whole")
        yield Static("This window is too small: 60 columns and 20 rows are needed.", id="too-small")
        yield KeyLine()

    def on_mount(self) -> None:
        self._pane("gpus").border_title = "GPUs"
        self._pane("host").border_title = "This machine"
        self.set_class(self._subject.history is not None, "-run")
        self._read()
        self.call_after_refresh(self._draw)
        self.set_interval(self._every, self._draw)

    @work(thread=True, exit_on_error=False)
    def _read(self) -> None:
        # Settings are read from files, and pictures counted.
        try:
            expected = self._subject.expected()
        except LauncherError:  # the walk says why: what it has so far makes no plan
            expected = None
        self.app.call_from_thread(self._expect, expected)

    def _expect(self, expected: Expected | None) -> None:
        self._expected = expected
        if expected is not None:
            arrow = ">" if self._glyphs is ASCII else "→"
            self._pane("host").border_subtitle = f"{arrow} {self._subject.name} at its peak"
        self._want(list(expected.disks) if expected else [])  # not those that were wanted from elsewhere
        self._draw()

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def on_screen_resume(self) -> None:
        self._draw()

    def _pane(self, name: str) -> Drawn:
        return self.query_one(f"#{name}", Drawn)

    def _draw(self) -> None:
        if not self.is_attached or not self.is_current:
            return
        sample, glyphs = self._samples.latest, self._glyphs
        state = state_line(sample, self._samples.age, self._samples.fault)
        self._pane("state").show(lambda width, _: [Content.styled(state[:width], "bold $text-warning")])
        self.set_class(bool(state), "-state")
        if sample is None:
            return
        expected, history, gpus = self._expected, self._subject.history, sample.gpus
        chosen = min(self.chosen, max(0, len(gpus) - 1))
        disks = len(disks_told(sample.disks, expected))
        self._arrange(max(1, len(gpus)), disks, bool(gpus))
        self._pane("gpus").show(lambda width, height: gpu_lines(sample, expected, chosen, width, height, glyphs))
        self._pane("host").show(lambda width, _: host_lines(sample, expected, history, width, glyphs))
        if gpus:
            self._draw_chosen(gpus[chosen], list(names(gpus))[chosen].strip())

    def _draw_chosen(self, gpu: GpuSample, called: str) -> None:
        expected, history, subject, glyphs = self._expected, self._subject.history, self._subject.name, self._glyphs
        uuid, recent = gpu.uuid, self._samples.recent
        called = called if called.startswith("GPU") else f"GPU {called}"
        self._title("detail", f"{called} {glyphs.between} {gpu.name}" if gpu.name else called)
        self._title("recent", f"{called} memory, two minutes")
        self._title("whole", f"{called} memory, whole run")
        self._pane("detail").show(lambda width, height: gpu_details(gpu, subject, expected, width, height))
        self._pane("recent").show(lambda width, height: two_minutes(recent, uuid, expected, width, height, glyphs))
        if history is not None:
            self._pane("whole").show(lambda width, height: whole_run(history, uuid, expected, width, height, glyphs))

    def _title(self, pane: str, title: str) -> None:
        if self._pane(pane).border_title != title:  # a border is drawn with all that it is around
            self._pane(pane).border_title = title

    def _arrange(self, gpus: int, disks: int, any_gpu: bool) -> None:
        """Gives each part the rows it needs; graphs have what is left, if that is enough."""
        host = 1 + disks
        room = self.app.size.height - 2 - self.has_class("-state") - host - FRAME
        listed = min(gpus, max(1, room - FRAME - LEAST - FRAME))
        details = min(DETAILS, max(LEAST, room - listed - 2 * FRAME)) if any_gpu else 0
        rows = {"gpus": listed, "host": host, "detail": details}
        if rows != self._rows:
            self._rows = rows
            for pane, count in rows.items():
                self._pane(pane).styles.height = count + FRAME
        left = room - listed - details - 2 * FRAME
        crowded = any_gpu and left < GRAPH
        self.set_class(not any_gpu, "-no-gpu")
        if (crowded, gpus > 1) != (self._crowded, self._several):
            self._crowded, self._several = crowded, gpus > 1
            self.refresh_bindings()
        self.set_class(crowded, "-crowded")
        self.set_class(self.graphs, "-graphs")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key is shown where it does something."""
        if action == "choose":
            return self._several
        return action != "graphs" or self._crowded

    def action_choose(self, step: int) -> None:
        """The GPU above or below."""
        sample = self._samples.latest
        if sample is not None and sample.gpus:
            self.chosen = min(len(sample.gpus) - 1, max(0, self.chosen + step))

    def action_graphs(self) -> None:
        self.graphs = not self.graphs

    def watch_chosen(self) -> None:
        self._draw()

    def watch_graphs(self) -> None:
        self._draw()

    def action_leave(self) -> None:
        self.dismiss(None)
