"""How a setting is declared: a dataclass field that carries its unit, bounds, choices and meaning.

A topic is a frozen dataclass whose fields are made with :func:`setting`. Everything that asks, checks,
stores or explains a setting reads :func:`declarations` and repeats nothing.
"""

import dataclasses
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, cast

Value = str | int | float | bool | tuple[float, ...]
"""What a setting can hold. JSON lists become tuples."""


class Level(StrEnum):
    """How bad a problem is: an error stops the launch, a warning is shown, a note only tells."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of the settings, named by the field a person can change.

    ``field`` is a public question id such as ``training.resolution``; ``rule`` names what found it.
    """

    field: str
    message: str
    level: Level = Level.ERROR
    rule: str = "type"


@dataclass(frozen=True, slots=True)
class Setting:
    """The declaration of one setting, read back from its dataclass field."""

    key: str
    kind: type
    """One of str, int, float, bool, tuple (of floats)."""
    default: Value
    doc: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    path: bool = False
    """The value is a file-system path: relative ones count from the answers file."""
    hub: bool = False
    """A path that may also be the id of a model on the hub."""
    required: bool = False
    """An empty string is not an answer."""

    def parse(self, value: object) -> Value:
        """The value as its kind, checked against bounds and choices.

        Raises:
            ValueError: with a sentence for the person who typed it.
        """
        parsed = _convert(self.kind, value)
        if self.choices and parsed not in self.choices:
            raise ValueError(f"must be one of {', '.join(self.choices)}, not {parsed!r}")
        for number in parsed if isinstance(parsed, tuple) else (parsed,):
            if isinstance(number, int | float) and not isinstance(number, bool):
                self._check_bounds(number)
        if self.required and parsed == "":
            raise ValueError("must not be empty")
        if isinstance(parsed, str) and any(ord(character) < 32 for character in parsed):
            raise ValueError("must not contain control characters")
        if isinstance(parsed, str) and not _is_unicode(parsed):
            raise ValueError("must not contain half a character: it cannot be written as UTF-8")
        return parsed

    def _check_bounds(self, number: float) -> None:
        if self.minimum is not None and number < self.minimum:
            bound = counted(_shown(self.minimum), self.unit)
            raise ValueError(f"must be at least {bound}, not {_shown(number)}")
        if self.maximum is not None and number > self.maximum:
            raise ValueError(f"must be at most {counted(_shown(self.maximum), self.unit)}, not {_shown(number)}")


def counted(number: str, unit: str) -> str:
    """A number with its unit, which is declared in the plural: 1 micro-batch, 2 micro-batches, 64 px."""
    if number == "1" and unit.endswith("s"):
        unit = unit.removesuffix("es") if unit.endswith("ches") else unit.removesuffix("s")
    return f"{number} {unit}".rstrip()


def _shown(number: float) -> str:
    """A whole number with all its digits: a bound and what lies just beyond it must not look the same."""
    return str(number) if isinstance(number, int) else f"{number:g}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, from JSON or from a file name of another encoding
        return False
    return True


def _convert(kind: type, value: object) -> Value:
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {value!r}")
        return value
    if kind is str:
        if not isinstance(value, str):
            raise ValueError(f"must be text, not {value!r}")
        return value
    if kind is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list of numbers, not {value!r}")
        return tuple(_number(item) for item in value)
    number = _number(value)
    if kind is float:
        return number
    if number != int(number):
        raise ValueError(f"must be a whole number, not {value!r}")
    return value if isinstance(value, int) else int(number)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("must be a finite number")
    return number


def setting(
    default: Value,
    doc: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    path: bool = False,
    hub: bool = False,
    required: bool = False,
) -> Any:
    """A dataclass field that carries the declaration of a setting."""
    facts = {
        "doc": doc,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "choices": tuple(choices),
        "path": path,
        "hub": hub,
        "required": required,
    }
    return dataclasses.field(default=default, metadata=facts)


def declarations(topic: type) -> Iterator[Setting]:
    """The settings of a topic, in the order they are declared."""
    hints = typing.get_type_hints(topic)
    for field in dataclasses.fields(topic):
        if not field.metadata:
            continue
        kind = typing.get_origin(hints[field.name]) or hints[field.name]
        yield Setting(key=field.name, kind=kind, default=cast(Value, field.default), **field.metadata)


def read_topic(topic: type, values: Mapping[str, object], prefix: str) -> tuple[dict[str, Value], list[Problem]]:
    """Parses the values of one topic; keys that are not the topic's are left to the caller.

    Args:
        topic: a settings dataclass.
        values: raw values by key, as JSON gives them. Missing keys take their default.
        prefix: the id namespace for problems, ``training`` or ``deepspeed``.

    Returns:
        Parsed values by key, and every fault found.
    """
    parsed: dict[str, Value] = {}
    problems: list[Problem] = []
    for declared in declarations(topic):
        try:
            parsed[declared.key] = declared.parse(values.get(declared.key, declared.default))
        except ValueError as error:
            problems.append(Problem(f"{prefix}.{declared.key}", str(error)))
            parsed[declared.key] = declared.default
    return parsed, problems
