"""What a question is. Front ends know kinds, never names."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simpletuner_tui.questions.conditions import Answer, Condition, Context
from simpletuner_tui.questions.kinds import PARSERS, VALIDATORS, Kind


@dataclass(frozen=True, slots=True)
class Choice:
    """A row of a menu."""

    label: str
    value: Answer
    unavailable: str = ""
    """Why it does not work here, shown beside the row; it can be chosen all the same."""


@dataclass(frozen=True, slots=True)
class Sets:
    """Where an answer goes in the file that accelerate would write."""

    path: str
    """Keys joined by dots."""
    transform: Callable[[Any], Any] | None = None
    """What is stored instead of the answer."""
    item: int | None = None
    """Stored as this item of a list."""
    when: Condition | None = None
    """Stored only then, besides the question being asked."""
    constant: Any = None
    """Stored whatever the answer is."""
    inverse: Callable[[Any], Answer] | None = None
    """From what is stored to the answer, where a transform loses it."""

    def stored(self, answer: Answer) -> Any:
        """What goes into the file for an answer."""
        if self.constant is not None:
            return self.constant
        return answer if self.transform is None else self.transform(answer)


@dataclass(frozen=True, slots=True)
class Question:
    """One question, declared once.

    ``text``, ``choices`` and ``default`` are values, or functions of the context for those that depend on
    earlier answers or on the machine.
    """

    id: str
    kind: Kind
    text: str | Callable[[Context], str]
    section: str
    choices: tuple[Choice, ...] | Callable[[Context], tuple[Choice, ...]] = ()
    """Rows of a menu; of a yes-no only where one of the two has something to be said about it."""
    default: Answer | Callable[[Context], Answer | None] | None = None
    when: Condition | None = None
    sets: tuple[Sets, ...] = ()
    check: Callable[[Answer, Context], None] | None = None
    """Raises ValueError, with a sentence for the person, for an answer that is of the right kind but wrong."""
    if_answered: bool = False
    """Asked only where something has answered it already: nobody is bothered with what it is about."""
    unchanged: str = ""
    """Of a yes-no that only decides whether more is asked: what holds where it is no, in words for the review."""
    secret: bool = False
    """Asked, never saved."""
    hub: bool = False
    """Of a path: it may also be the id of a model on the hub."""
    more: str = ""
    """Of a repeat: asks whether another follows."""
    help: str = ""

    @property
    def asks(self) -> bool:
        """Whether it wants an answer."""
        return self.kind not in (Kind.NOTE, Kind.STOP)

    def text_in(self, context: Context) -> str:
        """The text as it is asked now."""
        return self.text(context) if callable(self.text) else self.text

    def choices_in(self, context: Context) -> tuple[Choice, ...]:
        """The rows as they are offered now."""
        return self.choices(context) if callable(self.choices) else self.choices

    def numbered_in(self, context: Context) -> bool:
        """Whether a row may be called by its number: not where rows are numbers themselves, such as stages 0 to 3."""
        return not any(row.label.strip().isdigit() for row in self.choices_in(context))

    def default_in(self, context: Context) -> Answer | None:
        """What an empty answer means now; None where an answer is needed."""
        return self.default(context) if callable(self.default) else self.default

    def validate(self, answer: object, context: Context) -> Answer:
        """An answer from a file as this question's kind.

        Raises:
            ValueError: with a sentence for the person.
        """
        value = VALIDATORS[self.kind](self, answer, context)
        if self.check is not None:
            self.check(value, context)
        return value

    def parse(self, typed: str, context: Context) -> Answer:
        """A typed line as this question's kind.

        Raises:
            ValueError: with a sentence for the person.
        """
        return self.validate(PARSERS[self.kind](self, typed, context), context)

    def accept(self, answer: object, context: Context) -> Answer:
        """An answer, :class:`Typed` or from a file, as this question's kind.

        Raises:
            ValueError: with a sentence for the person.
        """
        return self.parse(answer, context) if isinstance(answer, Typed) else self.validate(answer, context)

    def show(self, answer: Answer, context: Context) -> str:
        """An answer as a person would type it; never a secret."""
        if self.secret:
            return "***" if answer else ""
        if self.kind is Kind.YES_NO:
            return "yes" if answer else "no"
        if self.kind is Kind.MENU:
            return next((row.label for row in self.choices_in(context) if row.value == answer), str(answer))
        if isinstance(answer, list):
            return ", ".join(str(item) for item in answer)
        return json.dumps(answer, ensure_ascii=False) if isinstance(answer, dict) else str(answer)

    def to_json(self) -> dict[str, Any]:
        """The question as the printed registry shows it; computed parts by the name of their function."""
        described: dict[str, Any] = {
            "id": self.id,
            "kind": str(self.kind),
            "section": self.section,
            "text": _printed(self.text),
            "choices": _printed(self.choices)
            if callable(self.choices)
            else [_printed_row(row) for row in self.choices],
            "default": _printed(self.default),
            "when": self.when.to_json() if self.when else None,
            "sets": [target.path for target in self.sets],
            "if_answered": self.if_answered,
            "unchanged": self.unchanged,
            "secret": self.secret,
            "more": self.more,
            "help": self.help,
        }
        # A default of no, 0 or nothing is one; without any, an answer is needed.
        return {key: value for key, value in described.items() if value or (key == "default" and value is not None)}


class Typed(str):
    """An answer as a person types it, still to be parsed as its question's kind."""

    __slots__ = ()


def _printed_row(row: Choice) -> dict[str, Any]:
    described = {"label": row.label, "value": row.value}
    return described | {"unavailable": row.unavailable} if row.unavailable else described


def _printed(value: Any) -> Any:
    return f"computed: {value.__name__}" if callable(value) else value
