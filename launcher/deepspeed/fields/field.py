"""What a field of DeepSpeed's JSON is: one row of the catalog."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from launcher.config.setting import counted


class Kind(StrEnum):
    """What a field holds."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    TEXT = "text"
    PATH = "path"
    NUMBERS = "numbers"
    TEXTS = "texts"


class Group(StrEnum):
    """The topic a field is shown under."""

    BATCH = "batch and clipping"
    PRECISION = "precision"
    ZERO = "ZeRO"
    STAGE_3 = "ZeRO stage 3"
    OFFLOAD = "offload"
    OPTIMIZER = "optimizer"
    SCHEDULER = "schedule"
    COMMUNICATION = "communication"
    AIO = "NVMe input and output"
    DIAGNOSTICS = "diagnostics"
    CHECKPOINT = "checkpoints"


@dataclass(frozen=True, slots=True)
class Field:
    """One field the builder edits."""

    path: str
    """Keys from the top of the JSON, joined by dots."""
    kind: Kind
    default: Any
    """What DeepSpeed 0.19.8 takes where the field is left out; None: nothing, and null is accepted."""
    meaning: str
    group: Group
    effect: str = ""
    """What a change costs or brings."""
    choices: tuple[Any, ...] = ()
    any_case: bool = False
    """Choices are taken in any case."""
    minimum: float | None = None
    maximum: float | None = None
    unit: str = ""
    basic: bool = False
    """Asked for in the basic view."""
    stages: tuple[int, ...] | None = None
    """The ZeRO stages it has an effect at; None: at all."""

    def fault(self, value: object) -> str | None:
        """Why DeepSpeed could not take this value, as a sentence for who typed it; None where it can."""
        if value is None:
            return None if self.default is None else "must not be null; leave it out to get DeepSpeed's default"
        fault = _KIND_FAULTS[self.kind](value)
        if fault is None and self.choices and not self._chosen(value):
            fault = f"must be one of {', '.join(str(choice) for choice in self.choices)}, not {shown(value)}"
        numbers = value if isinstance(value, list) else [value]
        return fault or next((f for n in numbers if (f := self._out_of_bounds(n))), None)

    def _chosen(self, value: object) -> bool:
        if self.any_case and isinstance(value, str):
            return value.lower() in {choice.lower() for choice in self.choices}
        return value in self.choices

    def _out_of_bounds(self, number: object) -> str | None:
        if isinstance(number, bool) or not isinstance(number, int | float):
            return None
        if self.minimum is not None and number < self.minimum:
            return f"must be at least {counted(f'{self.minimum:g}', self.unit)}, not {shown(number)}"
        if self.maximum is not None and number > self.maximum:
            return f"must be at most {counted(f'{self.maximum:g}', self.unit)}, not {shown(number)}"
        return None


def shown(value: object) -> str:
    """A value as a message quotes it: short, whatever it holds."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


LONGEST_SHOWN = 60
"""Characters of a value that a message quotes."""


def is_number(value: object) -> bool:
    """Whether a value is a finite number that DeepSpeed can hold; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < LARGEST


LARGEST = 2**63
"""Beyond it no tensor has a size, and pydantic and C++ refuse the number."""


def _number(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and not is_number(value):
        return f"is larger than any number DeepSpeed can hold: {shown(value)}"
    return None if is_number(value) else f"must be a number, not {shown(value)}"


def _whole(value: object) -> str | None:
    fault = _number(value)
    if fault is None and value != int(value):  # type: ignore[call-overload]
        return f"must be a whole number, not {shown(value)}"
    return fault


def _truth(value: object) -> str | None:
    return None if isinstance(value, bool) else f"must be true or false, not {shown(value)}"


def _text(value: object) -> str | None:
    return None if isinstance(value, str) else f"must be text, not {shown(value)}"


def _numbers(value: object) -> str | None:
    if not isinstance(value, list):
        return f"must be a list of numbers, not {shown(value)}"
    return next((fault for item in value if (fault := _number(item))), None)


def _texts(value: object) -> str | None:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return None
    return f"must be a list of texts, not {shown(value)}"


_KIND_FAULTS = {
    Kind.BOOL: _truth,
    Kind.INT: _whole,
    Kind.FLOAT: _number,
    Kind.TEXT: _text,
    Kind.PATH: _text,
    Kind.NUMBERS: _numbers,
    Kind.TEXTS: _texts,
}
