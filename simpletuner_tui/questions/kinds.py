"""Kinds of questions: what an answer of each is, from a file or as it is typed."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from simpletuner_tui.questions.conditions import Answer, Context

if TYPE_CHECKING:
    from simpletuner_tui.questions.model import Question

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


VALIDATORS: dict[Kind, Callable[[Question, object, Context], Answer]] = {
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
"""An answer from a file as one of the kind; ValueError, with a sentence for the person, where it is none."""


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


PARSERS: dict[Kind, Callable[[Question, str, Context], object]] = {
    Kind.MENU: _typed_menu,
    Kind.YES_NO: _typed_yes_no,
    Kind.INT: _typed_number,
    Kind.FLOAT: _typed_number,
    Kind.TEXT: _as_is,
    Kind.PATH: _as_is,
    Kind.LIST: _typed_numbers,
    Kind.REPEAT: _typed_texts,
    Kind.OBJECT: _typed_object,
}
"""A typed line as what a file would hold of the kind; ValueError as well."""
