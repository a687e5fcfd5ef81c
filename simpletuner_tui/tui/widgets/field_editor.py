"""One field of the DeepSpeed builder: what it means, what it does now, and where it is edited."""

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from launcher.deepspeed.fields import Kind
from simpletuner_tui.builder.model import Builder, Place
from simpletuner_tui.builder.told import problem_line
from simpletuner_tui.questions.model import Choice
from simpletuner_tui.tui.glyphs import Glyphs
from simpletuner_tui.tui.widgets.fields import ChoiceField, Edited, Field, LineField, PathField, TextField


class FieldEditor(VerticalScroll):
    """Shows one place of a builder, and says what would come of what stands in its field."""

    def __init__(self, builder: Builder, glyphs: Glyphs) -> None:
        super().__init__(id="editor", can_focus=False)
        self._builder, self._glyphs = builder, glyphs
        self._place: Place | None = None
        self._rows: tuple[Choice, ...] = ()
        self._unfinished: dict[Place, str] = {}
        """What was typed, is no value, and is shown again."""

    def compose(self) -> ComposeResult:
        for part in ("meaning", "idle"):
            yield Static(id=part, markup=False)
        yield Vertical(id="holder")
        for part in ("fault", "now", "default", "effect", "own-problems"):
            yield Static(id=part, markup=False)

    @property
    def place(self) -> Place | None:
        """What is shown."""
        return self._place

    @property
    def unfinished(self) -> Place | None:
        """Where something was typed that is no value."""
        return next(iter(self._unfinished), None)

    @property
    def field(self) -> Field | None:
        """Where it is edited; None before anything is shown."""
        fields = self.query(Field)
        return fields.last() if fields else None

    @property
    def _typed(self) -> str:
        """What stands in the line."""
        return self.query(TextField).last().value

    async def show(self, place: Place) -> None:
        """Shows a place as it is now, with a new field; the focus stays where it is."""
        self._place = place
        topic = place.field.group if place.field else "not edited here"
        self.border_title, self.border_subtitle = str(topic), place.path
        self.show_facts()
        typed = self._unfinished.get(place, self._builder.text(place))
        self._say("")
        self._rows = self._builder.rows(place)
        if self._rows:
            field: Field = ChoiceField(self._rows, self._builder.chosen(place), self._glyphs)
        elif place.field is not None and place.field.kind is Kind.PATH:
            field = PathField(typed)
        else:
            field = LineField(typed)
        holder = self.query_one("#holder", Vertical)
        before = list(holder.children)
        focused = self.has_focus_within
        await holder.mount(field)
        if focused:
            field.focus()
        await holder.remove_children(before)

    def show_facts(self) -> None:
        """Says anew what is known of the place: another field may have changed it."""
        place, glyphs = self._place, self._glyphs
        if place is None:
            return
        facts = self._builder.facts(place)
        self._fill("meaning", facts.meaning)
        self._fill("idle", f"{glyphs.ahead} No effect now: {facts.idle}." if facts.idle else "")
        self._fill("now", facts.now)
        self._fill("default", facts.default)
        self._fill("effect", facts.effect)
        self._fill("own-problems", "\n".join(problem_line(problem, place.path) for problem in facts.problems))

    def _fill(self, part: str, text: str) -> None:
        widget = self.query_one(f"#{part}", Static)
        widget.update(text)
        widget.display = bool(text)

    # Not :focus-within: with that, everything in here is styled anew whenever the focus moves.
    def on_descendant_focus(self) -> None:
        self.add_class("-editing")

    def on_descendant_blur(self) -> None:
        self.set_class(self.has_focus_within, "-editing")

    def on_edited(self, event: Edited) -> None:
        """Says while typing what would come of it; nothing is taken yet."""
        event.stop()
        place, rows = self._place, self._rows
        # It may come from the field of the place before: of a line the text is read where it stands, a row is known.
        text = text_of(event.answer) if rows else self._typed
        if place is None or (rows and text not in {row.value for row in rows}):
            return
        try:
            told = self._builder.foresee(place, text)
        except ValueError as error:
            self.say_fault(str(error))
        else:
            self._say(f"! would bring: {told}" if told else "")

    def keep(self) -> bool:
        """Takes what stands in a line without Enter; a row is chosen by Enter only.

        What is no value is shown again at the next visit; False then.
        """
        return bool(self._rows) or self._place is None or self.take(self._typed)

    def take(self, text: str) -> bool:
        """Takes a text for the place; says why not where it is no value."""
        place = self._place
        if place is None:
            return True
        self._unfinished.pop(place, None)
        if text == (self._builder.chosen(place) if self._rows else self._builder.text(place)):
            return True
        try:
            self._builder.take(place, text)
        except ValueError as error:
            self.say_fault(str(error))
            self._unfinished[place] = text
            return False
        self._say("")
        return True

    async def drop(self) -> None:
        """Puts back what stood there before it was typed in."""
        if self._place is not None:
            self._unfinished.pop(self._place, None)
            await self.show(self._place)

    def say_fault(self, message: str) -> None:
        """Says why a text was not taken."""
        self._say(f"{self._glyphs.fault} {message}", wrong=True)

    def _say(self, text: str, *, wrong: bool = False) -> None:
        line = self.query_one("#fault", Static)
        line.update(text)
        line.display = bool(text)
        line.set_class(wrong, "wrong")


def text_of(answer: object | None) -> str:
    """What a field says, as it would be typed; nothing where it was emptied."""
    return str(answer) if isinstance(answer, str) else ""
