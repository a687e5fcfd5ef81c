"""Values as they are typed and as they are written."""

import json
from typing import Any

from launcher.deepspeed.fields import Field, Kind


def parse(field: Field, text: str) -> Any:
    """A typed line as a field's value.

    Raises:
        ValueError: it is none, with a sentence for who typed it.
    """
    if any(ord(character) < 32 or 0xD800 <= ord(character) <= 0xDFFF for character in text):
        raise ValueError("must not contain control characters or half a character")
    value = read_typed(field, text.strip())
    if fault := field.fault(value):
        raise ValueError(fault)
    return value


def read_typed(field: Field, text: str) -> Any:
    """What a typed line means, right or wrong: what reads as nothing better stays text."""
    if field.kind in (Kind.NUMBERS, Kind.TEXTS):
        items = [item.strip() for item in text.split(",")]
        return [item for item in items if item] if field.kind is Kind.TEXTS else [_number(item) for item in items]
    if field.kind is Kind.BOOL:
        return {"true": True, "false": False}.get(text.lower(), text)
    if field.kind in (Kind.INT, Kind.FLOAT):
        number = _number(text)
        whole = field.kind is Kind.INT and isinstance(number, float) and number.is_integer()
        return int(number) if whole else number
    return next((choice for choice in field.choices if choice.lower() == text.lower()), text)


def _number(text: str) -> int | float | str:
    if not text.isascii() or "_" in text:  # Python reads these as numbers, and nobody means them
        return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def as_typed(value: object) -> str:
    """A value as a person would type it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and not any(isinstance(item, dict | list) for item in value):
        return ", ".join(as_typed(item) for item in value)
    return json.dumps(value, ensure_ascii=False)
