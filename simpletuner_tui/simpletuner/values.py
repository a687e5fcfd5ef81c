"""Values as SimpleTuner takes them: a number or a switch may stand there as text."""

import math
from typing import Any

from launcher.deepspeed.fields import shown

SWITCHES = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False, "none": False}
OFF = ("", "none", "null")


def is_off(value: Any) -> bool:
    """Whether a value says that something is not wanted: null, false, blank, or the word none."""
    return value is None or value is False or (isinstance(value, str) and value.strip().lower() in OFF)


def number(value: Any) -> float:
    """A finite number.

    Raises:
        ValueError: it is none.
    """
    if isinstance(value, str) and len(value) < 400:
        try:
            value = float(value)
        except ValueError:
            value = math.nan
    try:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value
    except OverflowError:
        pass
    raise ValueError(f"{shown(value)} is no number")


def whole(value: Any) -> int:
    """A whole number.

    Raises:
        ValueError: it is none.
    """
    found = number(value)
    if found != int(found):
        raise ValueError(f"{shown(value)} is no whole number")
    return int(found)


def switch(value: Any) -> bool:
    """True or false.

    Raises:
        ValueError: it is neither.
    """
    said = SWITCHES.get(value.strip().lower()) if isinstance(value, str) else value
    if isinstance(said, bool):
        return said
    raise ValueError(f"{shown(value)} is neither true nor false")


def word(value: Any) -> str:
    """A word that chooses something, in small letters.

    Raises:
        ValueError: it is no text.
    """
    if isinstance(value, str):
        return value.strip().lower()
    raise ValueError(f"{shown(value)} is no text")
