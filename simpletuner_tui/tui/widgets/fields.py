"""Where an answer is given: one field for each kind of question."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from simpletuner_tui.path_completion import completions
from simpletuner_tui.questions.conditions import Answer
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Question, Typed
from simpletuner_tui.text import printable
from simpletuner_tui.tui.glyphs import Glyphs

LONG_LIST = 8
"""Rows from which on a list offers to be filtered."""

CLEARED: Final = object()
"""Instead of an answer: what stood there was taken away, so the default counts again."""


class Answered(Message):
    """The person is done with the question.

    ``answer`` is a value, ``Typed`` or ``CLEARED``; None takes what is in force. It is given in ``field``, which may be
    gone by the time it is heard: a second Enter in haste is no answer to the question after.
    """

    def __init__(self, answer: object | None, field: Widget) -> None:
        super().__init__()
        self.answer, self.field = answer, field


class Edited(Message):
    """What stands in the field now, as in :class:`Answered`; nothing is decided yet."""

    def __init__(self, answer: object | None) -> None:
        super().__init__()
        self.answer = answer


class Field(Vertical):
    """Where one question is answered; says :class:`Edited` and :class:`Answered`."""

    @property
    def keyed(self) -> Widget:
        """Where its keys go."""
        raise NotImplementedError

    def focus(self, scroll_visible: bool = True) -> Self:
        """At once: were it left for later, the focus would go elsewhere on its way, and all of it would be drawn."""
        self.screen.set_focus(self.keyed, scroll_visible)
        return self

    def submit(self) -> None:
        """Does what Enter does, wherever the focus is."""
        raise NotImplementedError


def field_for(question: Question, rows: Sequence[Choice], value: Answer | None, text: str, glyphs: Glyphs) -> Field:
    """The field a question is answered in.

    Args:
        question: any that asks.
        rows: its choices, if it has any.
        value: the answer so far or the default; None without either.
        text: what stands in a line before anything is typed.
        glyphs: signs this terminal can show.
    """
    if question.kind in (Kind.MENU, Kind.YES_NO):
        return ChoiceField(rows, value, glyphs)
    if question.kind is Kind.REPEAT:
        return RepeatField([str(item) for item in value] if isinstance(value, list) else [], text)
    return PathField(text) if question.kind is Kind.PATH else LineField(text, password=question.secret)


class ChoiceField(Field):
    """A list of rows. Digits and first letters move, ``/`` filters a long one, Enter takes the row."""

    def __init__(self, rows: Sequence[Choice], value: Answer | None, glyphs: Glyphs) -> None:
        super().__init__()
        self._rows, self._value, self._glyphs = rows, value, glyphs
        self._shown = list(rows)

    def compose(self) -> ComposeResult:
        if len(self._rows) > LONG_LIST:
            line = Input(placeholder="/ filters these rows", id="filter", compact=True)
            line.cursor_blink = False
            yield line
        yield OptionList(id="rows", compact=True)

    def on_mount(self) -> None:
        self._fill("")

    @property
    def _list(self) -> OptionList:
        return self.query_one("#rows", OptionList)

    @property
    def keyed(self) -> Widget:
        return self._list

    def _fill(self, wanted: str) -> None:
        rows = self._list
        self._shown = [row for row in self._rows if wanted.lower() in row.label.lower()]
        rows.clear_options()
        rows.add_options([Option(self._line(row)) for row in self._shown])
        current = [index for index, row in enumerate(self._shown) if row.value == self._value]
        rows.highlighted = current[0] if current else (0 if self._shown else None)

    def _line(self, row: Choice) -> Content:
        mark = self._glyphs.changed if row.value == self._value else " "
        return Content(f"{mark} {row.label.strip()}{'  (not here)' if row.unavailable else ''}")

    def submit(self) -> None:
        index = self._list.highlighted
        if index is not None:
            self.post_message(Answered(self._shown[index].value, self))

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._fill(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.submit()

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_index < len(self._shown):  # a filter may have been typed since
            self.post_message(Edited(self._shown[event.option_index].value))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.submit()

    def on_key(self, event: events.Key) -> None:
        rows = self._list
        if event.character == "/" and self.query("#filter"):
            event.stop()
            self.query_one("#filter", Input).focus()
        elif event.key in ("up", "down") and not rows.has_focus:
            event.stop()
            move = rows.action_cursor_down if event.key == "down" else rows.action_cursor_up
            move()
        elif rows.has_focus and event.character and event.character.isalnum():
            event.stop()
            self._move_to(event.character)

    def _move_to(self, character: str) -> None:
        """As in accelerate's menu a digit is a row, counted from 0, unless rows are numbers themselves; a letter is
        the next row that begins with it."""
        rows = self._list
        labels = [row.label.strip().lower() for row in self._shown]
        begin = [index for index, label in enumerate(labels) if label.startswith(character.lower())]
        if begin:
            here = rows.highlighted if rows.highlighted is not None else -1
            rows.highlighted = next((index for index in begin if index > here), begin[0])
        elif character.isdecimal() and int(character) < len(self._shown):
            rows.highlighted = int(character)


class TextField(Input):
    """One line: text or a number."""

    def __init__(self, text: str, *, password: bool = False) -> None:
        super().__init__(text, password=password, select_on_focus=False)
        self.cursor_blink = False  # nothing redraws by itself
        self._start = text

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(Edited(self.answer))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(Answered(self.answer, self))

    @property
    def answer(self) -> object | None:
        """What stands there."""
        if self.value:
            return Typed(self.value)
        return CLEARED if self._start else None


class LineField(Field):
    """One line, and nothing beside it."""

    def __init__(self, text: str, *, password: bool = False) -> None:
        super().__init__()
        self._text, self._password = text, password

    def compose(self) -> ComposeResult:
        yield TextField(self._text, password=self._password)

    @property
    def keyed(self) -> Widget:
        return self.query_one(TextField)

    def submit(self) -> None:
        self.post_message(Answered(self.query_one(TextField).answer, self))


class PathField(LineField):
    """A path, completed as in a shell: Tab takes what is certain, the rest is listed below."""

    BINDINGS = [Binding("tab", "complete", "Complete")]
    LISTED = 5

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield Static(id="matches", markup=False)

    def on_mount(self) -> None:
        self._list(self._text)

    def on_edited(self, event: Edited) -> None:
        self._list(event.answer if isinstance(event.answer, str) else "")

    def action_complete(self) -> None:
        """Takes as much as all matches share; where that is nothing, moves on like any Tab."""
        field = self.query_one(TextField)
        common = completions(field.value, Path.cwd()).common
        if common != field.value:
            field.value = common
            field.cursor_position = len(common)
        else:
            self.screen.focus_next()

    def _list(self, text: str) -> None:
        found = completions(text, Path.cwd())
        shown = [printable(name) for name in found.matches[: self.LISTED]]
        if len(found.matches) > self.LISTED:
            shown.append(f"and {len(found.matches) - self.LISTED} more")
        self.query_one("#matches", Static).update("\n".join(f"  {name}" for name in shown))


class RepeatField(LineField):
    """One text after another: Enter adds, Enter on an empty line is done, Backspace there takes the last one back."""

    def __init__(self, items: list[str], text: str) -> None:
        super().__init__(text)
        self._items, self._start = items, list(items)

    def compose(self) -> ComposeResult:
        yield Static(id="items", markup=False)
        yield from super().compose()

    def on_mount(self) -> None:
        self._list()

    def on_edited(self, event: Edited) -> None:
        if isinstance(event.answer, Typed):
            event.answer = [*self._items, str(event.answer)]
        else:
            event.answer = list(self._items) if self._items != self._start else None

    def on_answered(self, event: Answered) -> None:
        if isinstance(event.answer, Typed):
            event.stop()
            self._add(str(event.answer))
        elif event.answer in (None, CLEARED):
            event.answer = self._answer()  # goes on to the screen as the whole answer

    def submit(self) -> None:
        typed = self.query_one(TextField).value
        if typed:
            self._add(typed)
        self.post_message(Answered(None, self))

    def on_key(self, event: events.Key) -> None:
        if event.key == "backspace" and not self.query_one(TextField).value and self._items:
            event.stop()
            self._items.pop()
            self._list()
            self.post_message(Edited(None))

    def _add(self, text: str) -> None:
        self._items.append(text)
        self.query_one(TextField).value = ""
        self._list()

    def _answer(self) -> list[str] | None:
        return list(self._items) if self._items or self._start else None

    def _list(self) -> None:
        lines = [f"  {number}. {printable(item)}" for number, item in enumerate(self._items, start=1)]
        lines.append("Enter adds one; Enter on an empty line is done." if lines else "Enter adds one.")
        self.query_one("#items", Static).update("\n".join(lines))
