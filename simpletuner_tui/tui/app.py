"""The application: which screen follows which, and what is done at the end of a walk."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.binding import Binding
from textual.driver import Driver

from launcher.errors import LauncherError
from launcher.runs.directory import RunDirectory
from simpletuner_tui.messages import left_to_itself
from simpletuner_tui.paths import typed_path
from simpletuner_tui.setups import remember
from simpletuner_tui.starting import WHERE, Start, starts
from simpletuner_tui.text import size
from simpletuner_tui.tui.commands import QuestionCommands
from simpletuner_tui.tui.quiet_app import QuietApp
from simpletuner_tui.tui.screens.dialogs import ChooseScreen, ConfirmScreen, PathScreen, Row, confirm_replacing
from simpletuner_tui.tui.screens.home import HomeScreen
from simpletuner_tui.tui.screens.texts import TextScreen
from simpletuner_tui.tui.screens.wizard import WizardScreen
from simpletuner_tui.tui.setup import SetUp

if TYPE_CHECKING:
    from simpletuner_tui.rehearsing import Kept
    from simpletuner_tui.tui.screens.rehearsal import RehearsalScreen
    from simpletuner_tui.tui.screens.review import ReviewScreen


class WizardApp(QuietApp):
    """Asks, reviews, saves and launches."""

    CSS_PATH = [
        "app.tcss",
        "screens/wizard.tcss",
        "screens/home.tcss",
    ]  # one that came later would have all the others parsed again
    COMMANDS = {QuestionCommands}
    BINDINGS = [Binding("ctrl+c", "interrupt", show=False, priority=True)]

    def __init__(self, setup: SetUp, driver_class: type[Driver] | None = None) -> None:
        super().__init__(setup.glyphs, driver_class)
        self.setup = setup
        self._saved: dict[str, object] = {}
        self.walking = False
        """Whether there are answers that somebody may want to keep."""
        self._outcome: str | None = None
        self._launched: RunDirectory | None = None
        """What the walk has ended with."""
        self._reviewing: ReviewScreen | None = None
        self._rehearsing: RehearsalScreen | None = None
        """The one that is under way."""
        self._starting = False
        """Whether a rehearsal or the run is about to begin: that is asked for once."""
        self.rehearsed: Kept | None = None
        """What the last rehearsal measured."""

    def on_mount(self) -> None:
        self._begin()

    @work
    async def _begin(self) -> None:
        """Home, or a walk that was asked for, and home after it."""
        setup = self.setup
        if not setup.at_home:
            await self.walk(setup, unsaved=await self._offer_starts())
        await self.push_screen(HomeScreen(setup))

    async def _offer_starts(self) -> bool:
        """Asks what to start from, where there is no home; returns whether those answers stand in no file."""
        setup, session = self.setup, self.setup.session
        offered: Sequence[Start] = () if session.answers else starts(setup.document, setup.drafts, setup.base)
        while offered:
            rows = [Row(str(number), start.title, start.details) for number, start in enumerate(offered)]
            chosen = await self.push_screen_wait(ChooseScreen(WHERE, rows))
            start = offered[-1 if chosen is None else int(chosen)]
            for remark in start.begin(session):
                self.notify(remark, severity="warning", timeout=20)
            if start.unsaved:
                return True
            offered = start.further() if start.further else ()
        return False

    async def walk(self, setup: SetUp, *, unsaved: bool) -> None:
        """Question after question, review, and back as often as the person likes, until they launch or go home.

        Args:
            setup: what is walked.
            unsaved: whether the answers it begins with stand in no file.
        """
        session, self.setup, self.rehearsed = setup.session, setup, None
        self._saved = {} if unsaved else session.kept_answers
        if not unsaved:
            setup.drafts.settle(self._saved)
        self.walking = True
        while await self.push_screen_wait(WizardScreen(setup)):
            from simpletuner_tui.tui.screens.review import HOME, ReviewScreen  # noqa: PLC0415 - nobody waits for it

            self.stop_measuring()  # it would be taken for another process, and spoil what a rehearsal measures
            self._reviewing = ReviewScreen(setup, self.rehearsed)
            wanted = await self.push_screen_wait(self._reviewing)
            if wanted == HOME:
                break
            if wanted is None:
                session.back()
            else:
                session.go_to(wanted)
        self.walking = False
        run, self._launched = self._launched, None
        if run is not None:
            await self.attach(run)

    async def attach(self, run: RunDirectory) -> None:
        """Shows a run, as it goes or as it went."""
        from simpletuner_tui.tui.screens.run import RunScreen  # noqa: PLC0415 - nobody waits for it at first

        await self.push_screen_wait(RunScreen(run, self.setup.glyphs))

    def jump(self, question_id: str) -> None:
        """Shows a question, from wherever the person is."""
        if isinstance(self.screen, WizardScreen):
            self.call_later(self.screen.jump, question_id)
        elif self._reviewing is self.screen:
            self._reviewing.dismiss(question_id)

    @work
    async def action_save(self) -> None:
        """Saves the file under a name; shows what would change before it replaces anything."""
        document = self.setup.document
        name = await self.push_screen_wait(PathScreen("Save as", str(document.path)))
        if name is None:
            return
        path = typed_path(name)
        try:
            planned = document.saving(self.setup.session.resolved, path)
            if planned.changes_nothing:
                self._settle(path)
                self.notify(f"{path} holds exactly this already")
                return
            if planned.before is not None and not await confirm_replacing(self, planned):
                return
            planned.write()
        except LauncherError as error:
            self.notify(str(error), severity="error", title="Not saved")
            return
        self._settle(path)
        told = f"Saved. {document.told(path)}."
        if document.launches:
            self.notify(told)
        else:
            self.exit(told)  # nothing is left to be done with it here

    def _settle(self, path: Path) -> None:
        """The answers stand in a file."""
        self._saved = self.setup.session.kept_answers
        self.setup.drafts.drop(self._saved)
        if self.setup.document.launches:
            remember(path)

    def action_dry_run(self) -> None:
        """Shows what a launch would do."""
        screen = self._reviewing
        if screen is not self.screen or screen.review is None:
            return
        parts = [f"{name}\n{'-' * len(name)}\n{text}" for name, text in screen.review.files.items()]
        prepared = screen.review.prepared
        where = f"A launch would write these files to {prepared.plan.home}." if prepared else "It cannot be launched."
        self.push_screen(TextScreen("Dry run: nothing is written", "\n".join([where, "", *parts])))

    @work
    async def action_rehearse(self) -> None:
        """Two steps of the run, and back with what they measured."""
        screen = self._reviewing
        if screen is not self.screen or screen.review is None or screen.review.prepared is None or self._starting:
            return
        from simpletuner_tui.failure import why_it_failed  # noqa: PLC0415
        from simpletuner_tui.follow import results  # noqa: PLC0415
        from simpletuner_tui.rehearsing import Kept, conclude, start_rehearsal  # noqa: PLC0415
        from simpletuner_tui.tui.screens.rehearsal import RehearsalScreen  # noqa: PLC0415

        prepared = screen.review.prepared
        self._starting = True
        try:
            run = await asyncio.to_thread(start_rehearsal, prepared)
        except LauncherError as error:
            self.notify(str(error), severity="error", title="Not rehearsed")
            return
        finally:
            self._starting = False
        self._rehearsing = following = RehearsalScreen(run, self.setup.glyphs)
        ended = await self.push_screen_wait(following)
        self._rehearsing = None
        told = "\n".join(results(run, following.progress, ended))
        rehearsed = conclude(run, ended)
        if ended.failed:
            await self.push_screen_wait(TextScreen("The rehearsal failed", f"{why_it_failed(run, ended)}\n\n{told}"))
        elif rehearsed.whole_run is None:
            self.notify(told, title="Rehearsal", severity="warning")
        else:
            self.rehearsed = Kept.of(prepared, rehearsed)
            if screen.is_attached:
                screen.show_rehearsal(self.rehearsed)

    @work
    async def action_launch(self) -> None:
        """Starts the run after one more question."""
        screen = self._reviewing
        if screen is not self.screen or screen.review is None or screen.review.prepared is None or self._starting:
            return
        from simpletuner_tui.launching import start  # noqa: PLC0415

        prepared = screen.review.prepared
        cost = prepared.plan.estimate
        verb = "Go on with" if RunDirectory(prepared.plan.home).plan_json.exists() else "Start"
        asked = (
            f"{verb} {prepared.plan.run_dir.name}? It takes about {size(cost.gpu_mib)} of each GPU, "
            f"{size(cost.host_mib)} of host RAM and {size(cost.disk_mib)} of disk."
        )
        if not await self.push_screen_wait(ConfirmScreen(asked, yes="Launch")):
            return
        self._starting = True
        try:
            run = await asyncio.to_thread(start, prepared)
        except LauncherError as error:
            self.notify(str(error), severity="error", title="Not started")
            return
        finally:
            self._starting = False
        self._saved = self.setup.session.kept_answers
        self.setup.drafts.drop(self._saved)
        self._outcome = left_to_itself(run.name)
        self._launched = run
        if screen is self.screen:
            screen.action_home()
        else:  # somebody went elsewhere meanwhile; the way home leads to the run
            self.notify(self._outcome)

    def action_interrupt(self) -> None:
        """Ctrl-C stops a rehearsal, and leaves where there is none."""
        if self._rehearsing is not None and self._rehearsing is self.screen:
            self._rehearsing.action_stop()
        else:
            self.action_leave()

    @work
    async def action_leave(self) -> None:
        """Leaves; with answers that were never saved it asks once."""
        if isinstance(self.screen, ConfirmScreen):
            self.screen.dismiss(False)
            return
        unsaved = self.walking and self.setup.session.kept_answers != self._saved
        asked = "Leave without saving? Your answers are kept as a draft and offered again."
        if not unsaved or await self.push_screen_wait(ConfirmScreen(asked, yes="Leave", no="Stay")):
            self.exit(left_to_itself(self._rehearsing.run.name) if self._rehearsing else self._outcome)
