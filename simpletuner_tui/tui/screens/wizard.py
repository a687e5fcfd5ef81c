"""The wizard: a question, the way to it, and what its answer amounts to."""

from functools import partial
from typing import TYPE_CHECKING

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal
from textual.reactive import var
from textual.widgets import Static

from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.steps import steps
from simpletuner_tui.tui.help import help_text
from simpletuner_tui.tui.screens.quiet import QuietScreen
from simpletuner_tui.tui.screens.texts import TextScreen
from simpletuner_tui.tui.setup import SetUp
from simpletuner_tui.tui.widgets.cost_pane import CostPane
from simpletuner_tui.tui.widgets.fields import CLEARED, Answered
from simpletuner_tui.tui.widgets.gpu_line import GpuLine
from simpletuner_tui.tui.widgets.key_line import KeyLine
from simpletuner_tui.tui.widgets.panes import FilePane, Pane
from simpletuner_tui.tui.widgets.question import QuestionView
from simpletuner_tui.tui.widgets.steps import JumpTo, StepList

if TYPE_CHECKING:
    from launcher.config.settings import Settings
    from simpletuner_tui.hardware import Subject
    from simpletuner_tui.questions.resolving import Resolved

PANES = ("help", "file", "cost")


class WizardScreen(QuietScreen[bool]):
    """Walks a session's questions; dismissed with True once there are no more, with False where somebody goes home."""

    BINDINGS = [
        Binding("f1", "help", "Help"),
        Binding("f2", "back", "Back"),
        Binding("f3", "next", "Next"),
        Binding("f4", "review", "Review"),
        Binding("f5", "next_pane", "File/Cost"),
        Binding("f6", "switch", "Switch"),
        Binding("f8", "build", "Build"),
        Binding("f7", "recommend", show=False),
        Binding("f9", "card", show=False),  # the cost pane names it
        Binding("f10", "measure", show=False),  # this one too
        Binding("ctrl+o", "home", show=False),
        Binding("enter", "go_on", show=False),  # where no field takes it
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-short"), (32, "-tall")]

    pane = var("help", init=False)

    def __init__(self, setup: SetUp) -> None:
        super().__init__(classes="-help" if setup.document.launches else "-help -no-cost")
        self._setup, self._session = setup, setup.session
        self._before = self._now = self._session.resolved
        """What held at the question before, and what holds at this one."""
        self._filled: list[Pane] = []

    def compose(self) -> ComposeResult:
        setup = self._setup
        with Horizontal(id="top"):
            yield Static(f"simpletuner-tui {setup.glyphs.between} {setup.document.name}", id="title", markup=False)
            yield GpuLine(setup.gpus)
        with Horizontal(id="body"):
            yield StepList(setup.glyphs)
            with Container(id="main"):
                yield QuestionView(self._session, setup.glyphs)
                yield FilePane("File", "file")
                yield Pane("Help", "help")
                if setup.document.launches:
                    yield CostPane(setup.machine, setup.card, setup.glyphs)
        yield Static("This window is too small: 60 columns and 20 rows are needed.", id="too-small")
        yield KeyLine()

    async def on_mount(self) -> None:
        await self.show()

    async def show(self) -> None:
        """Shows the session as it is now; leaves when the walk is over."""
        question = self._session.current
        self._setup.drafts.keep(self._session.kept_answers, question.id if question else "")
        if question is None:
            self.dismiss(True)
            return
        with self.app.batch_update():  # one picture goes over the wire, not one a widget
            await self.query_one(QuestionView).show()
            self.query_one(StepList).show(steps(self._session))
            self.query_one("#help", Pane).show(question.help or "There is no more to say about this one.")
            self._before, self._now = self._now, self._session.resolved
            self._show_panes()
            self.refresh_bindings()  # what was answered may have brought something to build

    def _show_panes(self) -> None:
        """The file and the cost, where there is room for them: nobody waits for what is not seen."""
        question, self._filled = self._session.current, self._panes()
        if question is None:
            return
        for pane in self._filled:
            if isinstance(pane, FilePane):
                from simpletuner_tui.preview import marked_lines  # noqa: PLC0415 - not before the first screen

                before, now = (
                    self._setup.document.preview(held, self._setup.base) for held in (self._before, self._now)
                )
                name, text = now.file_of(question.id)
                pane.show_file(name, marked_lines(before.files[name], text))
            elif isinstance(pane, CostPane):
                priced = (partial(self._settings, held) for held in (self._before, self._now))
                self.call_after_refresh(pane.price, *priced)  # the question comes first

    @property
    def subject(self) -> "Subject":
        from simpletuner_tui.hardware import Expected, Subject, expected_of  # noqa: PLC0415 - not before somebody looks

        setup, held = self._setup, self._session.resolved

        def expected() -> Expected:
            return expected_of(self._settings(held), setup.run_dir(), setup.machine().gpus())

        return Subject("the plan", expected) if setup.document.launches else Subject()

    def _settings(self, held: "Resolved") -> "Settings":
        from simpletuner_tui.answers import read_resolved  # noqa: PLC0415 - not before the first screen

        return read_resolved(held, self._setup.base).settings

    def on_gpu_line_changed(self, event: GpuLine.Changed) -> None:
        event.stop()
        for pane in self._panes():
            if isinstance(pane, CostPane):
                pane.follow(event.gpus)

    async def on_answered(self, event: Answered) -> None:
        """Takes an answer and goes on, or says why not."""
        event.stop()
        if not event.field.is_attached:
            return
        view, question = self.query_one(QuestionView), self._session.current
        try:
            if event.answer is CLEARED:
                self._session.clear()
            if event.answer is None or event.answer is CLEARED:
                self._session.accept_default()
            else:
                self._session.answer(event.answer)
        except ValueError as error:
            view.say_fault(str(error))
            return
        view.done(question)
        await self.show()

    async def action_next(self) -> None:
        """Does what Enter does, wherever the focus is."""
        question, field = self._session.current, self.query_one(QuestionView).field
        if question is not None and question.kind is Kind.NOTE:
            self._session.next()
            await self.show()
        elif field is not None:
            field.submit()

    async def action_go_on(self) -> None:
        """Goes past a note; from a pane, to the field."""
        if self._session.current is not None and self._session.current.kind is Kind.NOTE:
            await self.action_next()
        else:
            self._focus_field()

    async def action_back(self) -> None:
        """The question before; what was answered since is kept, and so is what stands here."""
        self.query_one(QuestionView).keep()
        if self._session.back():
            await self.show()
        elif self._setup.document.launches:
            await self.action_home()
        else:
            self.notify("This is the first question.")

    async def action_home(self) -> None:
        """Leaves the walk; what was answered is kept as a draft."""
        self.query_one(QuestionView).keep()
        self._setup.drafts.keep(self._session.kept_answers, self._session.current.id if self._session.current else "")
        self.dismiss(False)

    async def on_jump_to(self, event: JumpTo) -> None:
        event.stop()
        await self.jump(event.question_id)

    async def jump(self, question_id: str) -> None:
        """Goes to a question that is asked; what stands in the one that is open is kept."""
        view = self.query_one(QuestionView)
        if self._session.current is not None and self._session.current.id == question_id:
            self._focus_field()
            return
        view.keep()
        if question_id in {question.id for question in self._session.resolved.asked}:  # what stood there may decide it
            self._session.go_to(question_id)
        await self.show()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The builder's key is shown where there is something to build; a card is chosen where a cost is shown."""
        if action in ("card", "measure", "home"):
            return self._setup.document.launches
        if action == "build":
            return self._setup.document.builds.holds(self._session.resolved.context)
        if action == "recommend":
            return self._setup.document.launches
        if action == "take_back":
            return self._session.on_trial
        return super().check_action(action, parameters)

    @work
    async def action_build(self) -> None:
        """The DeepSpeed builder on the answers so far; its result becomes answers."""
        self.query_one(QuestionView).keep()
        from simpletuner_tui.tui.building import build  # noqa: PLC0415 - the first screen does without

        if told := await build(self.app, self._setup):
            self.notify(told)
            await self.show()

    @work
    async def action_recommend(self) -> None:
        """The fastest setting for a card, from the answers so far."""
        self.query_one(QuestionView).keep()
        from simpletuner_tui.tui.recommending import recommend  # noqa: PLC0415 - the first screen does without

        if told := await recommend(self.app, self._setup):
            self.notify(told)
            await self.show()

    async def action_take_back(self) -> None:
        """What was answered before the recommendation is in force again."""
        self._session.take_back()
        self.notify("The recommendation was taken back.")
        await self.show()

    @work
    async def action_card(self) -> None:
        """Another card to hold the cost against."""
        from simpletuner_tui.tui.cards import choose_card  # noqa: PLC0415 - the first screen does without

        self.pane = "cost"
        await choose_card(self.app, self._setup.card, self.query_one(CostPane))

    def action_measure(self) -> None:
        """How fast this machine is, for the seconds of a step; the cost is priced again with them."""
        self.pane = "cost"
        self.call_after_refresh(lambda: self.query_one(CostPane).measure())

    async def action_review(self) -> None:
        """Takes answers so far and defaults to the end, or to the first question that needs an answer."""
        if not self.query_one(QuestionView).keep():
            return
        self._session.skip_to_open_question()
        if self._session.current is not None:
            self.notify("Answers are still needed, from here on.")
        await self.show()

    def action_help(self) -> None:
        """Everything about this question, and the keys."""
        question = self._session.current
        if question is not None:
            self.app.push_screen(
                TextScreen(f"Help: {question.id}", help_text(self._session, launches=self._setup.document.launches))
            )

    def action_next_pane(self) -> None:
        """Help, file and, of a run, cost in turn."""
        panes = PANES if self._setup.document.launches else PANES[:-1]
        self.pane = panes[(panes.index(self.pane) + 1) % len(panes)]

    def watch_pane(self, before: str, now: str) -> None:
        self.remove_class(f"-{before}").add_class(f"-{now}")
        self._show_panes()

    def action_switch(self) -> None:
        """The focus goes from the field to the steps, to each pane there is room for, and back."""
        parts = [self.query_one(StepList), *self._panes()]
        focused = [number for number, part in enumerate(parts) if part.has_focus]
        following = focused[0] + 1 if focused else 0
        if following < len(parts):
            parts[following].focus()
        else:
            self._focus_field()

    def _panes(self) -> list[Pane]:
        """Those there is room for."""
        return [pane for pane in self.query(Pane) if pane.display]

    def on_resize(self) -> None:
        """A window that was too small hid what had the focus; a larger one has room for panes."""
        self.call_after_refresh(self._resized)

    def _resized(self) -> None:
        if not self.is_attached:
            return
        if self._panes() != self._filled:
            self._show_panes()
        if self.focused is None:
            self._focus_field()

    def _focus_field(self) -> None:
        if (field := self.query_one(QuestionView).field) is not None:
            field.focus()
