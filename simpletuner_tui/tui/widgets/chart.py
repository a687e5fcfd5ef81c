"""Curves with axes, drawn in braille's dots: two across and four down in each cell; or in ASCII."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.content import Content

from simpletuner_tui.tui.glyphs import ASCII, Glyphs

DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Of a braille cell, by row and column (Unicode 2800)."""
BRAILLE = 0x2800
Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """Values from left to right, as many as the chart has dots across."""

    values: Values
    style: str
    sign: str
    """Where there is ASCII only."""
    joined: bool = True
    """Whether its dots are joined to a line."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A level across the chart."""

    value: float
    style: str
    sign: str
    ascii: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one range; the last one lies on top."""

    curves: Sequence[Curve]
    label: Callable[[float], str]
    """What stands at the vertical axis."""
    left: str
    """What stands below the left end, and the right."""
    right: str
    limits: Sequence[Limit] = ()
    bottom: float | None = None
    """Where the vertical axis begins; at the lowest value by default."""
    top: float | None = None


def dots_across(width: int, chart_labels: int, glyphs: Glyphs) -> int:
    """How many values a chart of this width shows.

    Args:
        width: columns in all.
        chart_labels: columns of the labels at the vertical axis.
        glyphs: signs this terminal can show.
    """
    return max(0, (width - chart_labels - 1) * (1 if glyphs is ASCII else 2))


def draw(chart: Chart, width: int, height: int, labels: int, glyphs: Glyphs) -> list[Content]:
    """The chart in lines.

    Args:
        chart: what is drawn.
        width: columns there are.
        height: rows there are; the last holds the horizontal axis.
        labels: columns of the labels at the vertical axis.
        glyphs: signs this terminal can show.
    """
    columns, rows = width - labels - 1, height - 1
    if columns < 4 or rows < 1:
        return []
    low, high = _range(chart)
    across, down = (1, 1) if glyphs is ASCII else (2, 4)
    cells: list[list[tuple[str, str]]] = [[(" ", "")] * columns for _ in range(rows)]
    for limit in chart.limits:
        if low <= limit.value <= high:
            row = min(rows - 1, int((high - limit.value) / (high - low) * rows))
            cells[row] = [(limit.ascii if glyphs is ASCII else limit.sign, limit.style)] * columns
    for curve in chart.curves:
        bits = [[0] * columns for _ in range(rows)]
        for column, row in _places(curve, low, high, columns * across, rows * down):
            bits[row // down][column // across] |= DOTS[row % 4][column % 2] if down == 4 else 1
        for row, line in enumerate(bits):
            for column, bit in enumerate(line):
                if bit:
                    under, _ = cells[row][column]
                    more = ord(under) - BRAILLE if BRAILLE < ord(under) <= BRAILLE + 0xFF else 0
                    sign = curve.sign if glyphs is ASCII else chr(BRAILLE + (bit | more))
                    cells[row][column] = sign, curve.style
    axis, corner, across_sign = ("|", "+", "-") if glyphs is ASCII else ("│", "└", "─")
    told = {0: chart.label(high), rows - 1: chart.label(low)}
    if rows >= 5:
        told[rows // 2] = chart.label(high - (high - low) * (rows // 2 + 0.5) / rows)
    lines = [
        Content.assemble((f"{told.get(row, ''):>{labels}}{axis}", "$text-muted"), *_runs(line))
        for row, line in enumerate(cells)
    ]
    fill = columns - len(chart.left) - len(chart.right) - 2
    below = f"{chart.left} {across_sign * fill} {chart.right}" if fill >= 0 else across_sign * columns
    lines.append(Content.styled(f"{'':>{labels}}{corner}{below}", "$text-muted"))
    return lines


def _range(chart: Chart) -> tuple[float, float]:
    """Rounded outwards, so that not every new value moves all the others."""
    values = [value for curve in chart.curves for value in curve.values if value is not None]
    values += [limit.value for limit in chart.limits]
    low, high = min(values, default=0.0), max(values, default=1.0)
    step = nice((high - low) / 10 or abs(low) / 10 or 1.0)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    if high <= low:
        low, high = low - step, low + step
    return chart.bottom if chart.bottom is not None else low, chart.top if chart.top is not None else high


def nice(value: float) -> float:
    """The next of 1, 2 and 5 times a power of ten that is no less."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= value * (1 - 1e-9))


def _places(curve: Curve, low: float, high: float, columns: int, rows: int) -> Sequence[tuple[int, int]]:
    """The dots of a curve, by column and row from the top."""
    places, before = list[tuple[int, int]](), None
    for column, value in enumerate(curve.values[:columns]):
        if value is None:
            before = None
            continue
        share = min(1.0, max(0.0, (high - value) / (high - low)))
        row = min(rows - 1, int(share * rows))
        first, last = (row, row) if before is None or not curve.joined else _between(before, row)
        places += [(column, each) for each in range(first, last + 1)]
        before = row
    return places


def _between(before: int, now: int) -> tuple[int, int]:
    """The rows that join a dot to the one before it, without that one's own."""
    if now > before:
        return before + 1, now
    return (now, before - 1) if now < before else (now, now)


def _runs(cells: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Cells of one style together."""
    runs: list[tuple[str, str]] = []
    for sign, style in cells:
        if runs and runs[-1][1] == style:
            runs[-1] = runs[-1][0] + sign, style
        else:
            runs.append((sign, style))
    return runs
