"""The DeepSpeed builder: every field by topic, one of them to edit, the JSON it makes, and what is wrong with it."""

from functools import partial
from pathlib import Path
from typing import Any

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container, Horizontal, Vertical
from textual.reactive import var
from textual.widgets import Input, OptionList, Static

from launcher.config.setting import Level
from launcher.errors import LauncherError
from simpletuner_tui.builder.costing import settings_with
from simpletuner_tui.builder.destination import saved_line, saving_of
from simpletuner_tui.builder.model import Builder, Place
from simpletuner_tui.builder.told import errors_question, fact_lines, problem_line
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.paths import typed_path
from simpletuner_tui.text import table
from simpletuner_tui.tui.builder_commands import FieldCommands
from simpletuner_tui.tui.glyphs import Glyphs
from simpletuner_tui.tui.screens.dialogs import ConfirmScreen, PathScreen, confirm_replacing
from simpletuner_tui.tui.screens.quiet import QuietScreen
from simpletuner_tui.tui.screens.templates import TemplatesScreen
from simpletuner_tui.tui.screens.texts import TextScreen
from simpletuner_tui.tui.setup import CostBasis
from simpletuner_tui.tui.widgets.checks import Checks
from simpletuner_tui.tui.widgets.cost_pane import CostPane
from simpletuner_tui.tui.widgets.field_editor import FieldEditor, text_of
from simpletuner_tui.tui.widgets.field_list import FieldList
from simpletuner_tui.tui.widgets.fields import Answered
from simpletuner_tui.tui.widgets.key_line import KeyLine
from simpletuner_tui.tui.widgets.panes import FilePane, Pane

KEYS = (
    ("arrows, Enter", "choose a field; edit it"),
    ("Enter, F3", "in the field: takes what stands there"),
    ("Esc", "drops it and goes back to the list"),
    ("Del", "in the list: leaves the field out"),
    ("/", "searches every field by path and meaning"),
    ("F2", "leaves without saving"),
    ("F4", "the fields that matter, or all of them"),
    ("F5", "the JSON, the cost, the field, where there is room for one"),
    ("F6", "the focus goes to field, JSON, cost, checks, and back"),
    ("F7", "saves it; in the wizard, makes its answers of it"),
    ("F8", "templates: begin from one, keep this one"),
    ("F9", "another card to hold the cost against"),
    ("F10", "measures this machine, for the seconds of a step"),
    ("Ctrl+P", "goes to any field, and does all of the above"),
    ("Ctrl+Q", "leaves"),
)


class BuilderScreen(QuietScreen[dict[str, Any] | None]):
    """Edits one configuration; dismissed with it once it is saved or applied, or with None where it was left."""

    CSS_PATH = "builder.tcss"
    COMMANDS = {FieldCommands}
    BINDINGS = [
        Binding("f1", "help", "Help"),
        Binding("f2", "cancel", "Back"),
        Binding("f3", "take", "Take"),
        Binding("f4", "view", "All"),
        Binding("f5", "pane", "Pane"),
        Binding("f6", "switch", "Switch"),
        Binding("f7", "apply", "Apply"),  # one of the two is there
        Binding("f7", "save", "Save"),
        Binding("f8", "templates", "Templates"),
        Binding("f9", "card", show=False),  # the cost pane names it
        Binding("f10", "measure", show=False),  # this one too
        Binding("slash", "search", show=False),
        Binding("delete", "leave_out", show=False),
        Binding("escape", "to_list", show=False),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (110, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-short"), (32, "-tall")]

    full = var(False, init=False)
    """Whether every field is listed, and not only those that matter."""
    pane = var("field", init=False)
    """Which of the panes is seen where there is room for one."""

    def __init__(
        self,
        builder: Builder,
        glyphs: Glyphs,
        path: Path,
        basis: CostBasis,
        *,
        drafts: Drafts | None = None,
        full: bool = False,
        applies: bool = False,
    ) -> None:
        """Nothing is shown yet.

        Args:
            builder: what is edited.
            glyphs: signs this terminal can show.
            path: where it is saved unless another place is given.
            basis: what it is priced with.
            drafts: where it is kept at every edit; None: nowhere.
            full: whether every field is listed at first.
            applies: whether someone waits for the configuration itself; saving it to a file is beside that then.
        """
        super().__init__(classes="-field")
        self.builder = builder
        self._glyphs, self._path, self._drafts, self._applies = glyphs, path, drafts, applies
        self._basis = basis
        self._before = self._now = builder.config
        """What is priced: before the last edit, and after it."""
        self.set_reactive(BuilderScreen.full, full)
        self._drawn = -1
        """How many edits are in what is drawn."""
        self.saved: Path | None = None
        """Where it was saved, in the end."""
        self.told = "Nothing was written."
        """What came of it, in a sentence."""

    def compose(self) -> ComposeResult:
        glyphs, run = self._glyphs, self.builder.run
        version = self.builder.installed.version
        with Horizontal(id="top"):
            what = "these answers" if self._applies else self._path.name
            yield Static(f"DeepSpeed builder {glyphs.between} {what}", id="title", markup=False)
            told = f"DeepSpeed {version}" if version else "DeepSpeed is not installed"
            yield Static(f"{told}, {run.world_size} GPU{'s' if run.world_size > 1 else ''}", id="for", markup=False)
        with Horizontal(id="body"):
            with Vertical(id="left"):
                search = Input(placeholder="/ searches every field", id="search", compact=True)
                search.cursor_blink = False
                yield search
                yield FieldList(self.builder, glyphs)
            with Container(id="main"):
                yield FieldEditor(self.builder, glyphs)
                with Vertical(id="panes"):
                    yield FilePane("JSON", "file")
                    yield CostPane(self._basis.machine, self._basis.card, glyphs, self._basis.assumed)
        yield Checks(self.builder, glyphs)
        yield Static("This window is too small: 60 columns and 20 rows are needed.", id="too-small")
        yield KeyLine()

    async def on_mount(self) -> None:
        self._show_outcome()
        await self._show_highlighted()
        self.set_focus(self._list)

    # what is shown

    @property
    def _editor(self) -> FieldEditor:
        return self.query_one(FieldEditor)

    @property
    def _list(self) -> FieldList:
        return self.query_one(FieldList)

    def _fill(self) -> None:
        """The list, as the view and the search want it."""
        self._list.fill(full=self.full, words=self.query_one("#search", Input).value.strip(), here=self._editor.place)

    async def _show_place(self, place: Place | None) -> None:
        """Puts a place in the editor; what stands in the one before is kept."""
        editor = self._editor
        if place is None or place == editor.place:
            return
        self._keep()
        await editor.show(place)

    def _keep(self) -> None:
        if not self._editor.keep():
            self.notify("What was typed is no value: it is kept, and not taken.", severity="warning")
        self._show_outcome()

    def _show_outcome(self) -> None:
        """What the configuration amounts to now, unless it is shown: its JSON, its problems, the rows that say so."""
        if self._drawn == self.builder.edits:
            return
        self._drawn = self.builder.edits
        if self._drafts is not None:
            place = self._editor.place
            self._drafts.keep(self.builder.written, place.path if place else "")
        self._fill()
        self.query_one("#file", FilePane).show_file(self._path.name, self.builder.lines)
        self._editor.show_facts()
        self.query_one(Checks).show()
        self._before, self._now = self._now, self.builder.config
        self._price()

    def _price(self) -> None:
        """The cost, where it is seen."""
        pane = self.query_one(CostPane)
        if not pane.display or not self.query_one("#panes").display:
            return
        if self.builder.errors:
            pane.withhold("Not known before the errors below are mended.")
            return
        around = self._basis.around
        priced = (partial(settings_with, config, around) for config in (self._before, self._now))
        self.call_after_refresh(pane.price, *priced)  # the field comes first

    # editing

    @on(OptionList.OptionHighlighted, "#fields")
    async def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        await self._show_highlighted()

    async def _show_highlighted(self) -> None:
        # Not the row that was highlighted when it was said: the list may have been filtered since.
        await self._show_place(self._list.place)

    @on(OptionList.OptionSelected, "#fields")
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._edit()

    @on(OptionList.OptionSelected, "#problems")
    async def _problem_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter goes to where it is mended."""
        event.stop()
        if (place := self.query_one(Checks).target(event.option_index)) is not None:
            await self.go_to(place)

    async def go_to(self, place: Place) -> None:
        """Shows a place, in whichever view, and edits it."""
        await self._show_place(place)
        self.query_one("#search", Input).value = ""
        self._fill()
        self._list.highlight(place)
        self._edit()

    def _edit(self) -> None:
        self.pane = "field"
        if (field := self._editor.field) is not None:
            field.focus()

    async def on_answered(self, event: Answered) -> None:
        """Takes what stands in the field and goes back to the list, or says why not."""
        event.stop()
        if event.field.is_attached and self._editor.take(text_of(event.answer)):
            await self._taken()

    async def _taken(self) -> None:
        self._show_outcome()
        self.set_focus(self._list)
        place = self._editor.place
        if place is not None and self.builder.place(place.path) == place:
            await self._editor.show(place)
        else:  # a key that was taken out is gone, and may be all that was searched for
            self.query_one("#search", Input).value = ""
            self._fill()
            await self._show_highlighted()

    async def action_leave_out(self) -> None:
        """Takes the field out of the configuration; DeepSpeed's default or the run counts then."""
        if self._list.has_focus and self._editor.take(""):
            await self._taken()

    def action_take(self) -> None:
        """Does what Enter does in the field, wherever the focus is."""
        if (field := self._editor.field) is not None:
            field.submit()

    async def action_to_list(self) -> None:
        """Back to the list; what was typed and not taken is dropped."""
        if self._editor.has_focus_within:
            await self._editor.drop()
        else:
            self.query_one("#search", Input).value = ""
        self.set_focus(self._list)

    # the search and the view

    def action_search(self) -> None:
        self.query_one("#search", Input).focus()

    @on(Input.Changed, "#search")
    def _searched(self, event: Input.Changed) -> None:
        event.stop()
        self._fill()

    @on(Input.Submitted, "#search")
    def _search_done(self, event: Input.Submitted) -> None:
        event.stop()
        self.set_focus(self._list)

    def on_key(self, event: events.Key) -> None:
        if event.key == "down" and self.focused is self.query_one("#search"):
            event.stop()
            self.set_focus(self._list)

    def action_view(self) -> None:
        """Every field, or those that matter."""
        self.full = not self.full
        self._fill()

    def action_pane(self) -> None:
        """The focus goes to JSON, to cost, which take the field's place where there is room for one, and back."""
        here = self.focused.id if self.has_class("-wide") and self.focused else self.pane
        self.pane = {"file": "cost", "cost": "field"}.get(here or "", "file")
        self.set_focus(self._list if self.pane == "field" else self.query_one(f"#{self.pane}"))

    def watch_pane(self, before: str, now: str) -> None:
        self.remove_class(f"-{before}").add_class(f"-{now}")
        if now == "cost":
            self._price()

    @work
    async def action_card(self) -> None:
        """Another card to hold the cost against."""
        from simpletuner_tui.tui.cards import choose_card  # noqa: PLC0415 - few choose one

        self.pane = "cost"
        await choose_card(self.app, self._basis.card, self.query_one(CostPane))

    def action_measure(self) -> None:
        """How fast this machine is, for the seconds of a step; the cost is priced again with them."""
        self.pane = "cost"
        self.call_after_refresh(lambda: self.query_one(CostPane).measure())

    def action_switch(self) -> None:
        """The focus goes from the list to the field or the panes that are seen, the checks, and back."""
        parts = [self._list, self._editor, *self.query(Pane), self.query_one(Checks)]
        seen = [part for part in parts if part.region.area]
        here = next((number for number, part in enumerate(seen) if part.has_focus or part.has_focus_within), -1)
        following = seen[(here + 1) % len(seen)]
        if following is self._editor:
            self._edit()
        else:
            self.set_focus(following)

    def action_help(self) -> None:
        """Everything about this field, and the keys."""
        place = self._editor.place
        if place is None:
            return
        facts = self.builder.facts(place)
        lines = fact_lines(facts) + [problem_line(problem, place.path) for problem in facts.problems]
        text = "\n".join([*lines, "", "Keys", "----", *table(KEYS)])
        self.app.push_screen(TextScreen(f"Help: {place.path}", text))

    # the end

    @work
    async def action_cancel(self) -> None:
        """Leaves; what was changed and not saved is asked about once."""
        lost = not self._editor.keep() or self._editor.unfinished is not None or self.builder.edited
        self._show_outcome()
        kept = "kept as a draft and offered again" if self._drafts and self.builder.edited else "lost"
        done = "applying" if self._applies else "saving"
        asked = f"Leave without {done}? What was changed here is {kept}."
        if not lost or await self.app.push_screen_wait(ConfirmScreen(asked, yes="Leave", no="Stay")):
            self.dismiss(None)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where someone waits for the configuration, it is applied; else it is saved."""
        if action in ("apply", "save"):
            return self._applies is (action == "apply")
        return super().check_action(action, parameters)

    @work
    async def action_apply(self) -> None:
        """Hands it to who asked for it; what DeepSpeed would stop at is mended first."""
        if not await self._finished():
            return
        problem = next(iter(self.builder.problems), None)
        if problem is not None and problem.level is Level.ERROR:
            self.notify(f"{problem.field}: {problem.message}", title="Not applied", severity="error", timeout=10)
            if (place := self.builder.place_of(problem.field, problem.rule)) is not None:
                await self.go_to(place)
            return
        self.dismiss(self.builder.config)

    @work
    async def action_save(self) -> None:
        """Saves it under a name; shows what would change before it replaces anything."""
        if not await self._finished():
            return
        builder = self.builder
        question = ConfirmScreen(errors_question(builder), yes="Save")
        if builder.errors and not await self.app.push_screen_wait(question):
            return
        name = await self.app.push_screen_wait(PathScreen("Save as", str(self._path)))
        if name is None:
            return
        saved = None
        try:
            planned = saving_of(builder, typed_path(name))
            if planned.before is None or planned.changes_nothing or await confirm_replacing(self.app, planned):
                planned.write()
                saved = planned.path
        except LauncherError as error:
            self.notify(str(error), severity="error", title="Not saved")
            return
        if saved is None:
            return
        if self._applies:
            self.notify(f"Saved as {saved}. F7 applies it here.")
            return
        self.saved, self.told = saved, saved_line(builder, planned)
        if self._drafts is not None:
            self._drafts.drop(builder.written)
        self.dismiss(builder.config)

    async def _finished(self) -> bool:
        """Takes what stands in the field; where that is no value, goes there and says so."""
        self._editor.keep()
        self._show_outcome()
        if (place := self._editor.unfinished) is None:
            return True
        self.notify(f"What is typed for {place.path} is no value. Esc drops it.", title="Not done")
        await self.go_to(place)
        return False

    @work
    async def action_templates(self) -> None:
        """Templates to begin from; the one that is used takes the place of the whole configuration."""
        self._editor.keep()
        self._show_outcome()
        template = await self.app.push_screen_wait(TemplatesScreen(self.builder))
        if template is None:
            return
        self.builder.use(template.config)
        await self._taken()

    def on_resize(self) -> None:
        """A window that was too small hid what had the focus; a larger one has room for panes."""
        self.call_after_refresh(self._resized)

    def _resized(self) -> None:
        if not self.is_attached:
            return
        if self.query_one(CostPane).priced is None:  # there may be room for it now
            self._price()
        if self.focused is None:
            self.set_focus(self._list)
