"""Home: what one can begin with, the runs and set-ups there are, and the machine."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from launcher.errors import LauncherError
from launcher.runs.state import Status
from simpletuner_tui.run_rows import RunRow
from simpletuner_tui.setups import SetUpFile, remove_setup
from simpletuner_tui.starting import WHERE, Start, of_answers, start_anew, starts
from simpletuner_tui.text import size, table
from simpletuner_tui.tui.home_rows import HomeRow, More, Shelf, from_home, home_rows, may_resume, read_shelf
from simpletuner_tui.tui.screens.dialogs import ChooseScreen, ConfirmScreen, Row
from simpletuner_tui.tui.screens.quiet import QuietScreen
from simpletuner_tui.tui.screens.texts import TextScreen
from simpletuner_tui.tui.setup import SetUp
from simpletuner_tui.tui.widgets.key_line import KeyLine
from simpletuner_tui.tui.widgets.machine_glance import MachineGlance

if TYPE_CHECKING:
    from launcher.runs.removing import Removal
    from simpletuner_tui.tui.app import WizardApp

INTERVAL = 2.0
"""Seconds between two looks at the runs and set-ups."""
KEYS = (
    ("arrows", "move"),
    ("Enter", "begins; opens a set-up; shows a run as it goes, or as it went"),
    ("N", "begins with nothing answered"),
    ("C", "begins with the answers of a set-up or a run, saved nowhere yet"),
    ("R", "reviews a run that was stopped or failed, to go on from its newest checkpoint"),
    ("D", "deletes a draft, a set-up or a run that is over, after a question"),
    ("Ctrl+G", "the GPUs, host memory and disks of this machine"),
    ("Ctrl+P", "all this by name"),
    ("Q, Ctrl+Q", "leaves; runs go on"),
)


class HomeList(OptionList):
    """Says what Enter does."""

    BINDINGS = [Binding("enter", "select", "Open", key_display="enter")]


class HomeScreen(QuietScreen[None]):
    """The first screen, below all others; whoever leaves those comes back here."""

    BINDINGS = [
        Binding("f1", "help", "Help"),
        Binding("n", "new", "New"),
        Binding("c", "clone", "Clone"),
        Binding("r", "resume", "Resume"),
        Binding("d,delete", "delete", "Delete"),
        Binding("ctrl+g", "app.hardware", "Hardware"),
        Binding("q", "app.leave", show=False),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-short")]

    def __init__(self, setup: SetUp) -> None:
        """Nothing but what to begin with is known yet.

        Args:
            setup: what a walk begins with.
        """
        super().__init__()
        self._setup = setup
        self._starts: Sequence[Start] = ()
        self._shelf: Shelf | None = None
        self._rows: list[HomeRow] = []
        self._whole: frozenset[str] = frozenset()
        self._touched = False
        """Whether somebody has chosen a row."""

    def compose(self) -> ComposeResult:
        setup = self._setup
        yield Static(f"simpletuner-tui {setup.glyphs.between} home", id="title", markup=False)
        yield HomeList(id="rows", compact=True)
        with Vertical(id="machine") as box:
            box.border_title = "This machine"
            yield MachineGlance(setup.gpus, setup.machine, setup.glyphs)
        yield Static("This window is too small: 60 columns and 20 rows are needed.", id="too-small")
        yield KeyLine()

    def on_mount(self) -> None:
        self._look_what_to_begin_with()
        self._listed.focus()
        self.call_after_refresh(self._look)
        self.set_interval(INTERVAL, self._look)

    def on_screen_resume(self) -> None:
        if self._rows:  # not when it is shown for the first time
            self._look_what_to_begin_with()
            self._look()

    def on_resize(self) -> None:
        """A window that was too small hid what had the focus."""
        self.call_after_refresh(self._focus_again)

    def _focus_again(self) -> None:
        if self.focused is None and self.is_attached:
            self._listed.focus()

    # what is listed

    @property
    def _app(self) -> "WizardApp":
        return cast("WizardApp", self.app)

    @property
    def _listed(self) -> OptionList:
        return self.query_one("#rows", OptionList)

    def _look_what_to_begin_with(self) -> None:
        """Looks what one can begin with."""
        setup = self._setup
        self._starts = starts(setup.document, setup.drafts, setup.base) or (start_anew(),)
        self._list()

    def _look(self) -> None:
        if self.is_current:  # nobody sees it else
            self._read()

    @work(thread=True, exclusive=True, group="read", exit_on_error=False)
    def _read(self) -> None:
        # Run directories may lie on a disk that takes its time.
        self.app.call_from_thread(self._take, read_shelf())

    def _take(self, shelf: Shelf) -> None:
        first, self._shelf = self._shelf is None, shelf
        self._list()
        if first and not self._touched and shelf.going:  # who comes back to a run wants to see it
            self._listed.highlighted = self._listed.get_option_index(f"run {shelf.going[0].run.path}")

    def _list(self) -> None:
        """Draws what differs from what stands there."""
        if not self.is_attached:
            return
        before = self._rows
        self._rows = home_rows(self._starts, self._shelf, self._whole, self._setup.glyphs, self._setup.clock())
        listed = self._listed
        if [row.key for row in before] != [row.key for row in self._rows]:
            at = listed.highlighted_option.id if listed.highlighted_option else None
            place = listed.highlighted
            listed.clear_options()
            listed.add_options(self._option(row) for row in self._rows)
            self._highlight(at, place)
        else:
            for index, (old, new) in enumerate(zip(before, self._rows, strict=True)):
                if old.text != new.text:
                    listed.replace_option_prompt_at_index(index, Content(f"  {new.text}"))
        self.refresh_bindings()  # what a run is now may allow something else

    @staticmethod
    def _option(row: HomeRow) -> Option:
        if row.holds is None:
            return Option(Content.styled(row.text, "bold"), disabled=True)
        return Option(Content(f"  {row.text}"), id=row.key)

    def _highlight(self, key: str | None, place: int | None) -> None:
        """The same row as before, else the one in its place."""
        keys = [row.key for row in self._rows]
        last = max(index for index, row in enumerate(self._rows) if row.holds is not None)
        self._listed.highlighted = keys.index(key) if key in keys else min(place or 1, last)

    @property
    def _holds(self) -> object:
        """What the highlighted row is of."""
        index = self._listed.highlighted
        return self._rows[index].holds if index is not None and index < len(self._rows) else None

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        self.refresh_bindings()

    def on_key(self) -> None:
        self._touched = True

    # what is done

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A key is shown where it does something."""
        if not self.is_attached or not self._rows:
            return True
        holds = self._holds
        if action == "clone":
            return isinstance(holds, SetUpFile) or (isinstance(holds, RunRow) and not holds.rehearsal)
        if action == "resume":
            return isinstance(holds, RunRow) and may_resume(holds)
        if action == "delete":
            run_is_over = isinstance(holds, RunRow) and not holds.now.going
            return isinstance(holds, SetUpFile) or run_is_over or (isinstance(holds, Start) and holds.unsaved)
        return super().check_action(action, parameters)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._open()

    @work
    async def _open(self) -> None:
        """Begins, opens or shows what is highlighted."""
        holds = self._holds
        if isinstance(holds, More):
            self._whole |= {holds.of}
            self._list()
        elif isinstance(holds, RunRow):
            if holds.now.status is Status.PREPARED:
                self.notify(f"{holds.run.name} was never started.")
            else:
                await self._app.attach(holds.run)
        elif isinstance(holds, SetUpFile):
            document = replace(self._setup.document, path=holds.path)
            await self._begin_with(holds.path, replace(self._setup, document=document))
        elif isinstance(holds, Start):
            start = await self._choose(holds.further()) if holds.further else holds
            if start is not None:
                await self._begin(start, self._setup)

    async def _choose(self, offered: Sequence[Start]) -> Start | None:
        rows = [Row(str(number), start.title, start.details) for number, start in enumerate(offered)]
        chosen = await self.app.push_screen_wait(ChooseScreen(WHERE, rows))
        start = None if chosen is None else offered[int(chosen)]
        return start if start is not None and not start.further else None  # further: the way back

    @work
    async def action_new(self) -> None:
        """A walk with nothing answered."""
        await self._begin(start_anew(), self._setup)

    @work
    async def action_clone(self) -> None:
        """A walk with the answers of a set-up or a run."""
        holds = self._holds
        if isinstance(holds, RunRow):
            await self._begin_with(holds.run.answers, self._setup)
        elif isinstance(holds, SetUpFile):
            await self._begin_with(holds.path, self._setup)

    @work
    async def action_resume(self) -> None:
        """The review of a run, from which it goes on in its own run directory."""
        holds = self._holds
        if not isinstance(holds, RunRow):
            return
        from launcher.runs.checkpoints import newest_to_resume  # noqa: PLC0415 - the first screen does without

        run = holds.run
        try:
            newest = await asyncio.to_thread(newest_to_resume, run)
        except LauncherError as error:
            self.notify(str(error), severity="error", title="Not resumed")
            return
        if not self.is_active:  # somebody has begun something else meanwhile
            return
        if newest is None:
            self.notify(f"{run.name} has no checkpoint to go on from. C begins anew with its answers.")
            return
        document = replace(self._setup.document, name=f"{run.name} from {newest.path.name}")
        setup = replace(self._setup, document=document, run_dir=lambda: run.path)
        await self._begin_with(run.answers, setup, review=True)

    async def _begin_with(self, answers: Path, setup: SetUp, *, review: bool = False) -> None:
        try:
            start = of_answers(answers, setup.base, setup.document.registry)
        except LauncherError as error:
            self.notify(str(error), severity="error", title="Not opened")
            return
        await self._begin(start, setup, review=review)

    async def _begin(self, start: Start, setup: SetUp, *, review: bool = False) -> None:
        """Walks from there.

        Args:
            start: what it begins with.
            setup: what is made, and where.
            review: the review comes first, where no answer is missing.
        """
        setup = replace(setup, session=setup.session.anew())
        draft = None if start.unsaved else setup.drafts.read()
        for remark in start.begin(setup.session):
            self.notify(remark, severity="warning", timeout=20)
        if draft is not None:
            self.notify(f"The first change replaces the draft of {len(draft.answers)} answers.", timeout=10)
        if review:
            setup.session.skip_to_open_question()
        await self._app.walk(setup, unsaved=start.unsaved)

    @work
    async def action_delete(self) -> None:
        """Takes something away for good, after a question that says what."""
        holds = self._holds
        try:
            if isinstance(holds, SetUpFile):
                asked = f"Delete {from_home(holds.path)}? Runs that were made from it have their answers with them."
                if await self._confirmed(asked):
                    remove_setup(holds.path)
            elif isinstance(holds, RunRow):
                await self._delete_run(holds)
            elif isinstance(holds, Start) and await self._confirmed(f"Delete the draft ({holds.details})?"):
                self._setup.drafts.drop({})
        except LauncherError as error:
            self.notify(str(error), severity="error", title="Not deleted", timeout=20)
        self._look_what_to_begin_with()
        self._look()

    async def _delete_run(self, row: RunRow) -> None:
        from launcher.runs.removing import removal, remove_run  # noqa: PLC0415 - the first screen does without

        planned = await asyncio.to_thread(removal, row.run)
        asked = f"Delete {row.run.name} for good? It takes {size(planned.mib)}."
        if await self._confirmed(asked, Content("\n".join(removal_lines(planned)))):
            await asyncio.to_thread(remove_run, row.run)
            self.notify(f"{row.run.name} is deleted.")

    async def _confirmed(self, asked: str, details: Content | None = None) -> bool:
        return await self._app.push_screen_wait(ConfirmScreen(asked, yes="Delete", no="Keep", details=details))

    def action_help(self) -> None:
        """What each key does."""
        self.app.push_screen(TextScreen("Help: home", "\n".join(table(KEYS))))


def removal_lines(planned: "Removal") -> list[str]:
    """What goes with a run, and what stays."""
    lines = [str(planned.run.path)]
    if planned.checkpoints:
        lines.append(f"with {', '.join(planned.checkpoints)}")
    lines += [f"stays: {path} (not the run's own)" for path in planned.stays]
    lines += [f"stays: {path}" for path in planned.elsewhere]
    return lines
