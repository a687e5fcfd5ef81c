"""One question: its text, its field, its default and what is wrong with what stands there."""

from collections.abc import Sequence
from typing import cast

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from simpletuner_tui.questions.conditions import Answer
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Question, Typed
from simpletuner_tui.session import Session
from simpletuner_tui.tui.glyphs import Glyphs
from simpletuner_tui.tui.widgets.fields import CLEARED, Edited, Field, field_for

CHOOSING = (Kind.MENU, Kind.YES_NO)


class QuestionView(VerticalScroll):
    """Shows the session's current question and says what is wrong while it is being answered."""

    def __init__(self, session: Session, glyphs: Glyphs) -> None:
        super().__init__(id="question", can_focus=False)
        self._session, self._glyphs = session, glyphs
        self._rows: Sequence[Choice] = ()
        self._standing: object | None = None
        self._unfinished: dict[str, str] = {}
        """By id: what was typed, is no answer yet, and is shown again."""

    def compose(self) -> ComposeResult:
        yield Static(id="text", markup=False)
        yield Vertical(id="field")
        yield Static(id="fault", markup=False)
        yield Static(id="default", markup=False)

    @property
    def field(self) -> Field | None:
        """Where it is answered; None for what is only shown."""
        fields = self.query(Field)
        return fields.last() if fields else None

    async def show(self) -> None:
        """Shows what is current now, with the focus in its field."""
        question, session = self._session.current, self._session
        assert question is not None
        number, of = session.place
        self.border_title = f"{number} of {of}" if question.asks else str(question.kind)
        self.border_subtitle = question.id
        self.query_one("#text", Static).update(question.text_in(session.resolved.context).strip())
        self.query_one("#default", Static).update(self._default(question))
        self._rows = session.choices() if question.kind in CHOOSING else ()
        self._standing = None
        self._say_what_is_in_force()
        self.set_class(question.asks, "-answering")
        holder = self.query_one("#field", Vertical)
        before = list(holder.children)
        if question.asks:
            field = self._field(question)
            await holder.mount(field)
            field.focus()
        else:
            self.screen.set_focus(None)
        # Only now: a focus that is taken away would go to the steps first, and all of it would be drawn.
        await holder.remove_children(before)

    def _field(self, question: Question) -> Field:
        context = self._session.resolved.context
        # As it was given, right or wrong; a default is shown beside a line, as an empty one takes it.
        given = cast("Answer | None", self._session.answers.get(question.id))
        value = self._session.resolved.values.get(question.id) if question.kind in CHOOSING else given
        if question.kind is Kind.REPEAT:
            text = self._unfinished.get(question.id, "")
        else:
            shown = "" if value is None or question.secret else question.show(value, context)
            text = self._unfinished.get(question.id, shown)
        return field_for(question, self._rows, value, text, self._glyphs)

    def _default(self, question: Question) -> str:
        if question.kind is Kind.STOP:
            return "It does not go on from here: go back (F2) and answer otherwise."
        if question.kind is Kind.NOTE:
            return "Enter goes on."
        text, given = self._session.default_text(), question.id in self._session.answers
        where = self._session.origin(question)
        if question.kind in CHOOSING:
            return "Enter takes the row" + ("." if text is None else f"; {where} is {text}.")
        if text is None:
            return "An answer is needed here."
        if question.kind is Kind.REPEAT and not given:
            return f"Without any, {where} counts: {text or 'none'}"
        return f"Enter {'keeps' if given else 'takes'} {where}: {text or 'none'}"

    # Not :focus-within: with that, everything in here is styled anew whenever the focus moves.
    def on_descendant_focus(self) -> None:
        self.add_class("-answering")

    def on_descendant_blur(self) -> None:
        self.set_class(self.has_focus_within, "-answering")

    def on_edited(self, event: Edited) -> None:
        """Checks while typing; the field is never changed by it."""
        event.stop()
        question = self._session.current
        self._standing = event.answer
        if question is None or event.answer is None or event.answer is CLEARED:
            self._say("")
            return
        if question.kind in CHOOSING and event.answer == self._session.resolved.values.get(question.id):
            self._say_what_is_in_force()
            return
        try:
            question.accept(event.answer, self._session.resolved.context)
        except ValueError as error:
            self.say_fault(str(error))
        else:
            self._say(self._unavailable(event.answer))

    def keep(self) -> bool:
        """Takes what stands in a line as the answer, without Enter; a row of a menu is chosen by Enter only.

        What is no answer yet is shown again at the next visit; False then.
        """
        question, standing = self._session.current, self._standing
        if question is None or not question.asks or question.kind in CHOOSING or standing is None:
            return True
        self._unfinished.pop(question.id, None)
        if standing is CLEARED:
            self._session.clear()
            return True
        try:
            self._session.keep(standing)
        except ValueError as error:
            self.say_fault(str(error))
            if isinstance(standing, Typed) and not question.secret:
                self._unfinished[question.id] = str(standing)
            return False
        return True

    def done(self, question: Question | None) -> None:
        """Forgets what was typed: it was answered."""
        if question is not None:
            self._unfinished.pop(question.id, None)

    def say_fault(self, message: str) -> None:
        """Says why an answer was not taken."""
        self._say(f"{self._glyphs.fault} {message}" if message else "", wrong=True)

    def _say_what_is_in_force(self) -> None:
        question, session = self._session.current, self._session
        assert question is not None
        if question.id in session.answers and (fault := session.resolved.faults.get(question.id)):
            self.say_fault(fault)
        else:
            self._say(self._unavailable(session.resolved.values.get(question.id)))

    def _unavailable(self, value: object) -> str:
        reason = next((row.unavailable for row in self._rows if row.value == value), "")
        return f"! not here: {reason}" if reason else ""

    def _say(self, text: str, *, wrong: bool = False) -> None:
        line = self.query_one("#fault", Static)
        line.update(text)
        line.set_class(bool(text), "shown")
        line.set_class(wrong, "wrong")
