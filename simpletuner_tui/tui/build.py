"""The DeepSpeed builder as an application of its own: one file in, the file mended out."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from textual import work
from textual.driver import Driver

from launcher.errors import ExitCode
from simpletuner_tui.builder.costing import settings_around
from simpletuner_tui.builder.drafting import draft_details, draft_of
from simpletuner_tui.builder.editing import Editing
from simpletuner_tui.starting import WHERE
from simpletuner_tui.tui.driver import driver_here
from simpletuner_tui.tui.glyphs import Glyphs, glyphs_here
from simpletuner_tui.tui.quiet_app import QuietApp
from simpletuner_tui.tui.screens.builder import BuilderScreen
from simpletuner_tui.tui.screens.dialogs import ChooseScreen, ConfirmScreen, Row
from simpletuner_tui.tui.setup import CardChoice, CostBasis, this_machine

if TYPE_CHECKING:
    from launcher.preflight import Machine

ASSUMED = "SDXL at 1024 px"
"""What a configuration says nothing of, and its cost depends on."""


class BuilderApp(QuietApp):
    """Shows the builder alone."""

    def __init__(
        self,
        editing: Editing,
        glyphs: Glyphs,
        driver_class: type[Driver] | None = None,
        machine: "Callable[[], Machine]" = this_machine,
    ) -> None:
        super().__init__(glyphs, driver_class)
        self._editing = editing
        basis = CostBasis(settings_around(editing.builder.run), machine, CardChoice(), assumed=ASSUMED)
        self._shown = BuilderScreen(
            editing.builder, glyphs, editing.path, basis, drafts=editing.drafts, full=editing.full
        )

    def on_mount(self) -> None:
        self._edit()

    @work
    async def _edit(self) -> None:
        await self._offer_draft(self._editing)
        await self.push_screen(self._shown, lambda _: self.exit(self._shown.told))
        for remark in self._editing.remarks:
            self.notify(remark, timeout=20)

    async def _offer_draft(self, editing: Editing) -> None:
        builder, drafts = editing.builder, editing.drafts
        if drafts is None:
            return
        draft = draft_of(builder, drafts) if editing.offers_draft else None
        drafts.settle(builder.written)
        if draft is None:
            return
        name = editing.path.name
        rows = [
            Row("draft", "Continue the draft", draft_details(draft)),
            Row("file", f"Start from {name}", "as it is; the first change replaces the draft"),
        ]
        if await self.push_screen_wait(ChooseScreen(WHERE, rows)) == "draft":
            builder.use(draft.answers)

    def action_leave(self) -> None:
        """Leaves as F2 does; asked again it stays."""
        if isinstance(self.screen, ConfirmScreen):
            self.screen.dismiss(False)
        elif isinstance(self.screen, ChooseScreen):
            self.exit(self._shown.told)
        elif self.screen is self._shown:
            self._shown.action_cancel()


def build(editing: Editing) -> ExitCode:
    """Edits a configuration in full screen and saves it to a file."""
    return BuilderApp(editing, glyphs_here(), driver_class=driver_here()).run_and_tell()
