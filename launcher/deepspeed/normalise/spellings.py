"""Other ways to write what DeepSpeed reads elsewhere, in another shape, or not at all."""

import re

from launcher.deepspeed.fields import SECTIONS
from launcher.deepspeed.normalise.sheet import Sheet
from launcher.deepspeed.other_names import MOVED
from launcher.deepspeed.view import ABSENT

_ZERO = "zero_optimization"
_STAGE = f"{_ZERO}.stage"

_STAGE_WORD = re.compile(r"(?:zero|stage)?[-_ ]*(?:stage)?[-_ ]*([0-3])", re.IGNORECASE)


def stage_of(word: object) -> int | None:
    """The ZeRO stage that a word such as ``zero2`` or ``stage 2`` means; None where it means none."""
    match = _STAGE_WORD.fullmatch(word.strip()) if isinstance(word, str) else None
    return int(match[1]) if match else None


def understand_shapes(sheet: Sheet) -> None:
    """Sections written as one value become the object DeepSpeed wants; null becomes an empty one."""
    for section in ("optimizer", "scheduler"):
        if isinstance(name := sheet.raw(section), str):
            sheet.set(section, {"type": name}, "DeepSpeed wants an object with a type")
    zero = sheet.raw(_ZERO)
    if isinstance(zero, bool):
        sheet.set(_ZERO, {"stage": int(zero)}, "an old way to write the stage: true is 1, false 0")
    elif isinstance(zero, int) and zero in range(4):
        sheet.set(_ZERO, {"stage": zero}, "DeepSpeed wants an object with a stage")
    elif (stage := stage_of(zero)) is not None:
        sheet.set(_ZERO, {"stage": stage}, "DeepSpeed wants an object with a stage")
    for section in sorted(SECTIONS):  # a section comes before those in it
        if sheet.raw(section) is None:
            sheet.set(section, {}, "null is no section; an empty one stands for DeepSpeed's defaults")


def understand_names(sheet: Sheet) -> None:
    """Values under another name move to where DeepSpeed reads them."""
    for moved in MOVED:
        value, there = sheet.raw(moved.old), sheet.raw(moved.new)
        if value is ABSENT or value is None:  # null says nothing under any name
            continue
        value = moved.convert(value)
        if there is ABSENT:
            sheet.remove(moved.old, f"moved to {moved.new}: {moved.reason}")
            sheet.set(moved.new, value, f"was {moved.old}")
        elif there == value:
            sheet.remove(moved.old, f"{moved.new} says the same: {moved.reason}")


def understand_stage(sheet: Sheet) -> None:
    """A stage in words becomes its number."""
    if (stage := stage_of(sheet.raw(_STAGE))) is not None:
        sheet.set(_STAGE, stage, "the stage is a number")
