"""Values of known fields in another type than DeepSpeed takes, where it is clear what is meant."""

from typing import Any

from launcher.deepspeed.fields import FIELDS, STRICT, Field, Kind, is_number
from launcher.deepspeed.normalise.sheet import Sheet
from launcher.deepspeed.view import ABSENT

_NUMBERS = (Kind.INT, Kind.FLOAT)
_TRUTHS = {"true": True, "false": False, 1: True, 0: False}


def understand_values(sheet: Sheet) -> None:
    """Numbers and truths written as text, whole numbers written as 4.0, and choices in another case."""
    for path, field in FIELDS.items():
        value = sheet.raw(path)
        if value is ABSENT or value == "auto" or isinstance(value, dict):
            continue
        meant, reason = _meant(field, value)
        if meant is not value:
            sheet.set(path, meant, reason)


def _meant(field: Field, value: Any) -> tuple[Any, str]:
    if field.kind in _NUMBERS:
        if isinstance(value, str) and (number := number_in(value)) is not None:
            whole = field.kind is Kind.INT and number == int(number)
            return int(number) if whole else number, "a number written as text"
        # DeepSpeed's pydantic sections take 5e8 as it stands; its other code wants an int.
        if field.kind is Kind.INT and isinstance(value, float) and not _strict(field) and value.is_integer():
            return int(value), "a whole number"
    elif field.kind is Kind.NUMBERS and isinstance(value, list):
        numbers = [number_in(item) if isinstance(item, str) else item for item in value]
        if numbers != value and None not in numbers:
            return numbers, "numbers written as text"
    elif field.kind is Kind.BOOL and not isinstance(value, bool | list):
        truth = _TRUTHS.get(value.strip().lower() if isinstance(value, str) else value)
        if truth is not None:
            return truth, "true or false written in another way"
    elif field.choices and isinstance(value, str) and not field.any_case and value not in field.choices:
        for choice in field.choices:
            if isinstance(choice, str) and choice.lower() == value.strip().lower():
                return choice, "DeepSpeed wants it spelled exactly so"
    return value, ""


def _strict(field: Field) -> bool:
    return field.path.rpartition(".")[0] in STRICT


def number_in(text: str) -> int | float | None:
    """The number that a text writes out; None where it is none."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        # Python also reads 1_000 and digits of other scripts, which no one means here.
        return number if is_number(number) and text.isascii() and "_" not in text else None
    return None
