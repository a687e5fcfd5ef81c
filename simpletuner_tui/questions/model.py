"""What a question is. Front ends know kinds, never names."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from simpletuner_tui.questions.conditions import Answer, Condition, Context

LONGEST_PATH, LONGEST_NAME = 4095, 255
"""Bytes of a path and of one name in it, as Linux has them."""


class Kind(StrEnum):
    """How a question is asked and what its answer is."""

    MENU = "menu"
    YES_NO = "yes-no"
    INT = "int"
    FLOAT = "float"
    TEXT = "text"
    PATH = "path"
    LIST = "list"
    """Several numbers in one answer."""
    REPEAT = "repeat"
    """One text after another, until no more is wanted; the answer is their list."""
    OBJECT = "object"
    """Keys and values, nested; typed as JSON."""
    NOTE = "note"
    """Only shown."""
    STOP = "stop"
    """Shown, and the walk ends: accelerate refuses here."""


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
        value = _VALIDATORS[self.kind](self, answer, context)
        if self.check is not None:
            self.check(value, context)
        return value

    def parse(self, typed: str, context: Context) -> Answer:
        """A typed line as this question's kind.

        Raises:
            ValueError: with a sentence for the person.
        """
        return self.validate(_PARSERS.get(self.kind, _as_is)(self, typed, context), context)

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


@dataclass(frozen=True, slots=True)
class Resolved:
    """A registry met with answers: what is asked, and what holds."""

    asked: tuple[Question, ...]
    """In order; ends with the stop, if one was met."""
    values: Mapping[str, Answer]
    """By id, for every question asked that has an answer or a default."""
    answered: frozenset[str]
    """Ids whose value was given and is no default."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """By id: what is wrong with the answer given, or that one is missing."""
    probes: Mapping[str, bool] = field(default_factory=dict)

    @property
    def context(self) -> Context:
        """For texts, choices and defaults."""
        return Context(self.values, self.probes, self.answered)

    @property
    def stop(self) -> Question | None:
        """Where accelerate refuses to go on."""
        return next((question for question in self.asked if question.kind is Kind.STOP), None)


def resolve(
    registry: Sequence[Question], answers: Mapping[str, object], probes: Mapping[str, bool] | None = None
) -> Resolved:
    """Walks a registry in order: an answer counts while its question is asked, a default where there is none.

    Answers of questions that are not asked are left alone: a person who goes back and forth finds them again.
    """
    values: dict[str, Answer] = {}
    asked: list[Question] = []
    faults: dict[str, str] = {}
    answered = set()
    context = Context(values, probes or {}, answers.keys())  # it sees values as they come
    for question in registry:
        if question.when is not None and not question.when.holds(context):
            continue
        if question.if_answered and question.id not in answers:
            continue
        asked.append(question)
        if question.kind is Kind.STOP:
            break
        if not question.asks:
            continue
        default = question.default_in(context)
        if question.id in answers:
            answered.add(question.id)
            try:
                values[question.id] = question.accept(answers[question.id], context)
                continue
            except ValueError as error:
                faults[question.id] = str(error)
        elif default is None:
            faults[question.id] = "has no answer and no default"
        if default is not None:
            values[question.id] = default
    return Resolved(tuple(asked), values, frozenset(answered), faults, probes or {})


def _printed_row(row: Choice) -> dict[str, Any]:
    described = {"label": row.label, "value": row.value}
    return described | {"unavailable": row.unavailable} if row.unavailable else described


def _printed(value: Any) -> Any:
    return f"computed: {value.__name__}" if callable(value) else value


def _menu(question: Question, answer: object, context: Context) -> Answer:
    rows = question.choices_in(context)
    for row in rows:
        if type(answer) is type(row.value) and answer == row.value:
            return row.value
    for row in rows:
        if isinstance(answer, str) and answer.strip().lower() == row.label.strip().lower():
            return row.value
    raise ValueError(f"must be one of {', '.join(str(row.value) for row in rows)}, not {answer!r}")


def _yes_no(question: Question, answer: object, context: Context) -> Answer:
    if isinstance(answer, bool):
        return answer
    raise ValueError(f"must be true or false, not {answer!r}")


def _int(question: Question, answer: object, context: Context) -> Answer:
    number = _float(question, answer, context)
    if number != int(number):  # type: ignore[arg-type]
        raise ValueError(f"must be a whole number, not {answer!r}")
    return answer if isinstance(answer, int) else int(number)


def _float(question: Question, answer: object, context: Context) -> Answer:
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise ValueError(f"must be a number, not {answer!r}")
    try:
        finite = math.isfinite(answer)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError("must be a finite number")
    return float(answer)


def _text(question: Question, answer: object, context: Context) -> Answer:
    if not isinstance(answer, str):
        raise ValueError(f"must be text, not {answer!r}")
    if any(ord(character) < 32 or ord(character) == 127 for character in answer):
        raise ValueError("must not contain control characters")
    if any(0xD800 <= ord(character) <= 0xDFFF for character in answer):
        raise ValueError("must be valid text: it contains bytes that are not UTF-8")
    return answer


def _path(question: Question, answer: object, context: Context) -> Answer:
    text = str(_text(question, answer, context))
    if len(text.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in text.split("/")):
        raise ValueError("is too long for a path")
    try:
        if text.startswith("~"):
            Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"names a home folder that does not exist: {text}") from error
    return text


def _numbers(question: Question, answer: object, context: Context) -> Answer:
    if not isinstance(answer, list | tuple):
        raise ValueError(f"must be a list of numbers, not {answer!r}")
    return [_float(question, item, context) for item in answer]


def _texts(question: Question, answer: object, context: Context) -> Answer:
    if not isinstance(answer, list):
        raise ValueError(f"must be a list of texts, not {answer!r}")
    return [_text(question, item, context) for item in answer]


def _object(question: Question, answer: object, context: Context) -> Answer:
    from launcher.deepspeed.reading import plain  # noqa: PLC0415 - most walks have no such question

    if not isinstance(answer, dict):
        raise ValueError(f"must be an object, not {answer!r}")
    read = plain(answer)
    if read.problems:
        raise ValueError(read.problems[0].message)
    return answer


_VALIDATORS: dict[Kind, Callable[[Question, object, Context], Answer]] = {
    Kind.MENU: _menu,
    Kind.YES_NO: _yes_no,
    Kind.INT: _int,
    Kind.FLOAT: _float,
    Kind.TEXT: _text,
    Kind.PATH: _path,
    Kind.LIST: _numbers,
    Kind.REPEAT: _texts,
    Kind.OBJECT: _object,
}


def _typed_menu(question: Question, typed: str, context: Context) -> object:
    rows = question.choices_in(context)
    text = typed.strip()
    numbered = question.numbered_in(context)
    if numbered and text in map(str, range(1, len(rows) + 1)):
        return rows[int(text) - 1].value
    for row in rows:
        if text.lower() in (str(row.value).lower(), row.label.strip().lower()):
            return row.value
    by_number = f"a number from 1 to {len(rows)}, or " if numbered else ""
    raise ValueError(f"type {by_number}one of {', '.join(str(row.value) for row in rows)}")


def _typed_yes_no(question: Question, typed: str, context: Context) -> object:
    try:
        return {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}[typed.strip().lower()]
    except KeyError:
        raise ValueError("type yes or no") from None


def _typed_number(question: Question, typed: str, context: Context) -> object:
    text = typed.strip()
    if len(text) > 400:  # Python itself refuses to convert thousands of digits
        raise ValueError("type a shorter number")
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise ValueError("type a number, such as 8 or 1e-5") from None


def _typed_numbers(question: Question, typed: str, context: Context) -> object:
    return [_typed_number(question, part, context) for part in typed.strip(" []()").split(",")]


def _typed_texts(question: Question, typed: str, context: Context) -> object:
    return [str(typed)] if typed else []


def _typed_object(question: Question, typed: str, context: Context) -> object:
    from launcher.deepspeed.reading import read_json  # noqa: PLC0415 - most walks have no such question

    read = read_json(typed)
    if read.problems:
        raise ValueError(f"type JSON, such as {{}}: {read.problems[0].message}")
    return read.value


def _as_is(question: Question, typed: str, context: Context) -> object:
    return str(typed)  # a file's writer knows no subclasses


_PARSERS: dict[Kind, Callable[[Question, str, Context], object]] = {
    Kind.MENU: _typed_menu,
    Kind.YES_NO: _typed_yes_no,
    Kind.INT: _typed_number,
    Kind.FLOAT: _typed_number,
    Kind.LIST: _typed_numbers,
    Kind.REPEAT: _typed_texts,
    Kind.OBJECT: _typed_object,
}
