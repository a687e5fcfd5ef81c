"""A rehearsal under way, over the review."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events
from launcher.runs.state import RunStatus, status
from simpletuner_tui.event_lines import line_of, moving_line
from simpletuner_tui.follow import POLL
from simpletuner_tui.progress import Progress
from simpletuner_tui.rehearsing import stop_rehearsal
from simpletuner_tui.tui.glyphs import ASCII, Glyphs


class RehearsalScreen(ModalScreen[RunStatus]):
    """Dismissed with what the rehearsal is once it is over."""

    CSS_PATH = "rehearsal.tcss"
    BINDINGS = [Binding("q,escape", "stop", "Stop")]

    def __init__(self, run: RunDirectory, glyphs: Glyphs) -> None:
        super().__init__()
        self.run, self._glyphs = run, glyphs
        self.progress = Progress()
        """What it has told so far."""
        self._offset = 0
        self._lines: list[str] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="rehearsal") as box:
            box.border_title = "Rehearsal: two steps"
            box.border_subtitle = "q stops it"
            with VerticalScroll():
                yield Static(id="ended", markup=False)
            yield Static(id="moving", markup=False)
            yield Static(
                f"It goes on if this terminal closes; then\n  simpletuner-tui attach {self.run.name}",
                id="said",
                markup=False,
            )

    def on_mount(self) -> None:
        self.call_after_refresh(self._look)  # how much room there is, is known then
        self.set_interval(POLL, self._look)

    def _look(self) -> None:
        current = status(self.run)  # asked first: what it tells of its end is then read below
        events, self._offset = read_events(self.run.events_jsonl, self._offset)
        for event in events:
            self.progress.take(event)
        if lines := [line for event in events if (line := line_of(event))]:
            self._lines += lines
            self.query_one("#ended", Static).update("\n".join(line.removeprefix("  ") for line in self._lines))
            self.query_one(VerticalScroll).scroll_end(animate=False)
        moving = self.query_one("#moving", Static)
        line = moving_line(self.progress, moving.size.width + 2, ascii_only=self._glyphs is ASCII).strip()
        if line != str(moving.content):
            moving.update(line)
        if not current.going and self.is_active:  # nobody is asked anything over it
            self.dismiss(current)

    def action_stop(self) -> None:
        """After this step; a second time, at once."""
        self.query_one("#said", Static).update(stop_rehearsal(self.run))
