"""The review: every answer, what it amounts to, and what to do with it."""

from enum import StrEnum
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.reactive import var
from textual.widgets import Button, OptionList, Static
from textual.widgets.option_list import Option

from launcher.config.setting import Level, Problem
from simpletuner_tui.rehearsal_lines import rehearsal_lines
from simpletuner_tui.review import Review, ReviewRow, review
from simpletuner_tui.tui.screens.quiet import QuietScreen
from simpletuner_tui.tui.setup import SetUp
from simpletuner_tui.tui.widgets.gpu_line import MOVED_MIB, GpuLine
from simpletuner_tui.tui.widgets.key_line import KeyLine
from simpletuner_tui.tui.widgets.panes import Pane

if TYPE_CHECKING:
    from simpletuner_tui.rehearsing import Kept


class Action(StrEnum):
    """What a person decides on at the review."""

    SAVE = "save"
    DRY_RUN = "dry-run"
    REHEARSE = "rehearse"
    LAUNCH = "launch"


HOME = "home"
"""In place of a question's id, where somebody goes home."""


class ReviewScreen(QuietScreen[str | None]):
    """Dismissed with the id of a question to go back to, None to go back to the last one, or :data:`HOME`.

    Saving, dry runs, rehearsals and launches are the application's; this screen only asks for them.
    """

    CSS_PATH = "review.tcss"
    BINDINGS = [
        Binding("f2", "back", "Back"),
        Binding("f5", "next_file", "Files"),
        Binding("f6", "act('rehearse')", "Rehearse"),
        Binding("f7", "act('save')", "Save"),
        Binding("f8", "act('dry-run')", "Dry run"),
        Binding("f9", "act('launch')", "Launch"),
        Binding("ctrl+o", "home", show=False),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-short"), (32, "-tall")]

    shown = var(-1)
    """Which file; -1 shows the answers where there is room for one thing only."""

    def __init__(self, setup: SetUp, rehearsed: "Kept | None" = None) -> None:
        """Nothing is judged yet.

        Args:
            setup: what is reviewed.
            rehearsed: what the last rehearsal measured, of these answers or of others.
        """
        super().__init__()
        self._setup, self._rehearsed = setup, rehearsed
        self.review: Review | None = None
        self._free: dict[str, int] | None = None
        """MiB of each GPU that were free when it was judged."""

    def compose(self) -> ComposeResult:
        with Horizontal(id="top"):
            yield Static(f"Review {self._setup.glyphs.between} {self._setup.document.name}", id="title", markup=False)
            yield GpuLine(self._setup.gpus)
        with Container(id="main"):
            yield OptionList(id="answers", compact=True)
            yield Pane("File", "file")
        yield Pane("Rehearsal", "rehearsal")
        yield OptionList(id="problems", compact=True)
        with Horizontal(id="actions"):
            yield Button("Save (F7)", id="save", compact=True)
            if self._setup.document.launches:
                yield Button("Dry run (F8)", id="dry-run", compact=True)
                yield Button("Rehearse (F6)", id="rehearse", compact=True)
                yield Button("Launch (F9)", id="launch", compact=True)
        yield Static("This window is too small: 60 columns and 20 rows are needed.", id="too-small")
        yield KeyLine()

    def on_mount(self) -> None:
        answers = self.query_one("#answers", OptionList)
        answers.border_title = "Answers"
        answers.border_subtitle = f"{self._setup.glyphs.changed} differs from the default"
        self.query_one("#problems", OptionList).border_title = "Checks"
        self.watch_shown()
        self._judge()

    def on_gpu_line_changed(self, event: GpuLine.Changed) -> None:
        """Where others have taken or given back much of a GPU, what was said of it may not hold any more."""
        event.stop()
        free = {gpu.uuid: gpu.free_mib for gpu in event.gpus.gpus}
        before, self._free = self._free, free
        if before is None:
            return
        if any(abs(free.get(uuid, 0) - mib) >= MOVED_MIB for uuid, mib in before.items()):
            self._judge()
        else:
            self._free = before

    @work(thread=True, exclusive=True)
    def _judge(self) -> None:
        # Pictures are opened and disks are asked: not on the thread that answers the keyboard.
        setup = self._setup
        judged = review(setup.session, setup.document, setup.base, setup.run_dir(), setup.machine())
        self.app.call_from_thread(self._show, judged)

    def _show(self, judged: Review) -> None:
        if not self.is_attached:  # it was left before the disks had answered
            return
        self.review = judged
        self._list_answers(judged)
        self._list_problems(judged)
        self._list_figures(judged)
        if self._setup.document.launches:
            reason = judged.why_not_launched
            for button in (Action.REHEARSE, Action.LAUNCH):
                self.query_one(f"#{button}", Button).disabled = reason is not None
            self.query_one("#problems").border_subtitle = "Launch is unavailable: mend the errors" if reason else ""
        self.watch_shown()
        self._focus_something()

    def _list_answers(self, judged: Review) -> None:
        answers, section = self.query_one("#answers", OptionList), ""
        wrong = {problem.field for problem in judged.problems if problem.level is Level.ERROR}
        answers.clear_options()
        for row in judged.rows:
            if row.question.section != section:
                section = row.question.section
                answers.add_option(Option(Content.styled(section, "bold"), disabled=True))
            answers.add_option(Option(self._line(row, row.question.id in wrong), id=row.question.id))

    def _line(self, row: ReviewRow, wrong: bool) -> Content:
        glyphs = self._setup.glyphs
        mark = glyphs.fault if row.fault or wrong else glyphs.changed if row.changed else " "
        # Without the namespace, and of a long JSON path its end only.
        name = row.question.id.split(".", 1)[-1].rsplit(".", 2)
        source = f"  (from {row.source})" if row.source else ""
        text = f"{mark} {'.'.join(name[-2:])}: {row.value or '(empty)'}{source}"
        return Content(f"{text}  (error: {row.fault})" if row.fault else text)

    def _list_problems(self, judged: Review) -> None:
        listed = self.query_one("#problems", OptionList)
        listed.clear_options()
        asked = {row.question.id for row in judged.rows}
        for problem in judged.problems:
            listed.add_option(Option(self._problem(problem), disabled=problem.field not in asked))
        for note in judged.notes:
            listed.add_option(Option(Content(f"note: {note}"), disabled=True))
        if not judged.problems:
            listed.add_option(Option(Content(f"{self._setup.glyphs.done} nothing speaks against it"), disabled=True))

    def show_rehearsal(self, rehearsed: "Kept") -> None:
        """What was just measured."""
        self._rehearsed = rehearsed
        if self.review is not None:
            self._list_figures(self.review)

    def _list_figures(self, judged: Review) -> None:
        kept = self._rehearsed
        self.set_class(kept is not None, "-rehearsed")
        if kept is None:
            return
        pane = self.query_one("#rehearsal", Pane)
        holds = kept.holds_for(judged.prepared)
        pane.set_class(not holds, "-stale")
        pane.border_title = "Rehearsal" if holds else "Rehearsal, stale: answers have changed since"
        pane.show("\n".join(line.removeprefix("  ") for line in rehearsal_lines(kept.rehearsed)))

    def _problem(self, problem: Problem) -> Content:
        word = "error" if problem.level is Level.ERROR else "warning"
        return Content(f"{word}: {problem.field}: {problem.message}")

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter goes to the question, of an answer or of a problem."""
        event.stop()
        if event.option_list.id == "answers":
            self.dismiss(event.option_id)
        elif self.review is not None:
            self.dismiss(self.review.problems[event.option_index].field)

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        await self.action_act(str(event.button.id))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What cannot be launched shows no keys for it."""
        shown = action != "home" and (action != "act" or parameters[0] == Action.SAVE)
        return shown or self._setup.document.launches

    async def action_act(self, action: str) -> None:
        """Asks the application for it."""
        if self.review is None:
            return
        if action in (Action.REHEARSE, Action.LAUNCH) and (reason := self.review.why_not_launched):
            self.notify(reason, title=f"{action.capitalize()} is unavailable", severity="error")
            return
        await self.app.run_action(f"app.{action.replace('-', '_')}")

    def action_back(self) -> None:
        self.dismiss(None)

    def action_home(self) -> None:
        """Leaves the walk; what was answered is kept as a draft."""
        self.dismiss(HOME)

    def action_next_file(self) -> None:
        """Answers, then each file, then answers again."""
        count = len(self.review.files) if self.review else 0
        self.shown = -1 if self.shown + 1 >= count else self.shown + 1
        self._focus_something()

    def _focus_something(self) -> None:
        """What can be seen has the focus, so that arrows scroll it."""
        self.query_one("#answers" if self.shown < 0 else "#file").focus()

    def on_resize(self) -> None:
        """A window that was too small hid what had the focus."""
        self.call_after_refresh(self._focus_again)

    def _focus_again(self) -> None:
        if self.focused is None and self.is_attached:
            self._focus_something()

    def watch_shown(self) -> None:
        self.set_class(self.shown >= 0, "-file")
        if self.review is None:
            return
        name, text = list(self.review.files.items())[max(0, self.shown)]
        pane = self.query_one("#file", Pane)
        count = len(self.review.files)
        pane.border_title = f"{name}  ({max(0, self.shown) + 1} of {count}, F5 next)" if count > 1 else name
        pane.show(text)
