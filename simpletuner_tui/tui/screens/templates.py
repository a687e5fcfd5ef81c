"""Templates of the DeepSpeed builder: what each is and would change, and keeping the configuration there is as one."""

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from launcher.deepspeed.examples import EXAMPLES
from launcher.deepspeed.template import Template
from launcher.deepspeed.templates import remove_template, save_template, templates
from launcher.errors import InvalidInputError, RefusedToOverwriteError
from simpletuner_tui.builder.model import Builder
from simpletuner_tui.builder.told import template_lines, using_lines
from simpletuner_tui.tui.screens.dialogs import ConfirmScreen
from simpletuner_tui.tui.widgets.fields import Answered, Edited, TextField


class TemplatesScreen(ModalScreen[Template | None]):
    """Dismissed with the template that takes the place of the configuration, or with None."""

    CSS_PATH = "templates.tcss"
    BINDINGS = [
        Binding("escape,f8", "cancel", "Cancel"),
        Binding("f7", "keep", "Keep this one"),
        Binding("delete", "remove", "Remove"),
    ]

    def __init__(self, builder: Builder) -> None:
        """Nothing is read yet.

        Args:
            builder: holds the configuration there is; it is left alone.
        """
        super().__init__()
        self._builder = builder
        self._templates: list[Template] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield OptionList(id="names", compact=True)
            with VerticalScroll(id="about"):
                yield Static(markup=False)
            yield Static(
                "Enter uses it, F7 keeps what is edited as a template, Del removes one, Tab scrolls, Esc closes.",
                classes="hint",
            )

    def on_mount(self) -> None:
        names, about = self.query_one("#names", OptionList), self.query_one("#about", VerticalScroll)
        names.border_title, about.border_title = "Templates", "What it is, and what it would change"
        self._read()
        names.focus()

    def _read(self, name: str = "") -> None:
        self._templates = templates()
        listed = self.query_one("#names", OptionList)
        listed.clear_options()
        listed.add_options(
            Option(Content(f"{each.name}{'  (comes with the program)' if each in EXAMPLES else ''}"))
            for each in self._templates
        )
        listed.highlighted = next((row for row, each in enumerate(self._templates) if each.name == name), 0)

    @property
    def _chosen(self) -> Template:
        row = self.query_one("#names", OptionList).highlighted
        return self._templates[row or 0]

    @on(OptionList.OptionHighlighted)
    def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        brought = using_lines(self._builder, self._chosen)
        lines = [*template_lines(self._chosen), "", *(brought or ["It says what is there already."])]
        self.query_one("#about Static", Static).update("\n".join(lines))
        self.query_one("#about").scroll_home(animate=False)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.dismiss(self._chosen)

    @work
    async def action_keep(self) -> None:
        """Keeps the configuration there is as a template, as far as the run does not say it."""
        kept = await self.app.push_screen_wait(KeepScreen(self._builder))
        if kept is not None:
            self._read(kept.name)

    @work
    async def action_remove(self) -> None:
        """Takes a saved one away, after a question."""
        template = self._chosen
        if template in EXAMPLES:
            self.notify(f"{template.name} comes with the program; only saved templates are removed.")
        elif await self.app.push_screen_wait(ConfirmScreen(f"Remove {template.name} for good?", yes="Remove")):
            try:
                remove_template(template.name)
            except (InvalidInputError, OSError) as error:
                self.notify(str(error), severity="error", title="Not removed")
            self._read()

    def action_cancel(self) -> None:
        self.dismiss(None)


class KeepScreen(ModalScreen[Template | None]):
    """Asks for a template's name and description, and keeps it; None when it is cancelled."""

    CSS_PATH = "templates.tcss"
    BINDINGS = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, builder: Builder) -> None:
        super().__init__()
        self._builder = builder

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Keep what is edited as a template, without what the run fills in.", classes="asked")
            yield Static("Name")
            yield TextField("")
            yield Static("Description")
            yield TextField("")
            yield Static(id="fault", markup=False)
            yield Static("Enter goes on, Esc cancels.", classes="hint")

    def on_mount(self) -> None:
        self.query(TextField).first().focus()

    def on_edited(self, event: Edited) -> None:
        event.stop()

    def on_answered(self, event: Answered) -> None:
        event.stop()
        name, description = self.query(TextField)
        if event.field is name and name.value:
            description.focus()
        else:
            self._keep(name, description)

    @work
    async def _keep(self, name: TextField, description: TextField) -> None:
        template = Template(name.value.strip(), description.value.strip(), self._builder.written)
        try:
            save_template(template)
        except RefusedToOverwriteError as error:
            if not await self.app.push_screen_wait(ConfirmScreen(f"{error}. Replace it?", yes="Replace")):
                return
            save_template(template, replace=True)
        except (InvalidInputError, OSError) as error:
            self.query_one("#fault", Static).update(str(error))
            name.focus()
            return
        self.dismiss(template)

    def action_cancel(self) -> None:
        self.dismiss(None)
