"""A row of the builder's list: a field, its value, and the first thing to say about it."""

from textual.content import Content

from simpletuner_tui.builder.model import Builder, Place, State
from simpletuner_tui.tui.glyphs import Glyphs

ROW, LONGEST_VALUE = 32, 14
"""Columns of a row of the list, and of the value in it."""

WITHOUT = ("zero_optimization.", "optimizer.params.", "scheduler.params.")
"""Beginnings of paths that a row leaves out: its topic says as much."""


def field_row(place: Place, builder: Builder, glyphs: Glyphs) -> Content:
    """One place in a line, cut to the width of the list."""
    state = builder.state(place)
    sign = {
        State.ERROR: glyphs.fault,
        State.WARNING: "!",
        State.IDLE: glyphs.ahead,
        State.SET: glyphs.changed,
        State.LEFT_OUT: " ",
    }[state]
    name = place.path
    for beginning in WITHOUT if place.field else ():
        name = name.removeprefix(beginning)
    value = _cut(builder.value(place), LONGEST_VALUE, glyphs)
    if value:
        value = f": {value}"
    text = f"{sign} {_cut(name, ROW - len(sign) - 1 - len(value), glyphs)}{value}"
    return Content.styled(text, "$text-muted") if state is State.IDLE else Content(text)


def _cut(text: str, columns: int, glyphs: Glyphs) -> str:
    return text if len(text) <= columns else text[: columns - 1] + glyphs.ellipsis
