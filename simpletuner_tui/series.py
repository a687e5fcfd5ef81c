"""A figure over a whole run, however long that is, in a few kilobytes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

CAPACITY = 1024
"""Bins: more than any terminal has columns, so that none is drawn from less than one bin."""


@dataclass(slots=True)
class Bin:
    """What fell into one stretch."""

    count: int
    total: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float) -> "Bin":
        """One value."""
        return cls(1, value, value, value)

    @property
    def mean(self) -> float:
        """Of all values."""
        return self.total / self.count

    def with_(self, other: "Bin") -> "Bin":
        """Both together."""
        count, total = self.count + other.count, self.total + other.total
        return Bin(count, total, min(self.low, other.low), max(self.high, other.high))


class Series:
    """Values by step or second. Once all bins are used, every two become one, so any number of values fits."""

    def __init__(self, stride: float = 1.0, capacity: int = CAPACITY) -> None:
        """Holds nothing yet.

        Args:
            stride: what a bin spans at first, in steps or seconds.
            capacity: how many bins there may be, an even number.
        """
        self._stride, self._capacity = stride, capacity
        self._origin = 0.0
        self._bins: list[Bin | None] = []
        self.last = math.nan
        """The place of the last value."""
        self.latest = math.nan
        """The last value."""

    def __bool__(self) -> bool:
        return bool(self._bins)

    def __len__(self) -> int:
        return sum(1 for each in self._bins if each)

    @property
    def highest(self) -> float:
        """Of all values; NaN where there are none."""
        return max((each.high for each in self._bins if each), default=math.nan)

    @property
    def first(self) -> float:
        """The place of the first bin."""
        return self._origin

    def add(self, place: float, value: float) -> None:
        """Counts a value in; one that is no number is left out.

        Args:
            place: the step or second. One before the last, as of a run that goes on from an older checkpoint, replaces
                what was there.
            value: the figure.
        """
        if not (math.isfinite(value) and math.isfinite(place)):
            return
        if not self._bins or place < self._origin:
            self._bins, self._origin = [], place
        elif place <= self.last:
            del self._bins[self._index(place) :]
        while self._index(place) >= self._capacity:
            self._halve()
        index = self._index(place)
        self._bins += [None] * (index + 1 - len(self._bins))
        there, new = self._bins[index], Bin.of(value)
        self._bins[index] = there.with_(new) if there else new
        self.last, self.latest = place, value

    def columns(self, count: int, begin: float, end: float) -> list[Bin | None]:
        """The values of one stretch, shared out over columns; None where there are none.

        Args:
            count: how many columns.
            begin: where the stretch begins.
            end: where it ends, later than that.
        """
        columns: list[Bin | None] = [None] * count
        if not self._bins:
            return columns
        for index in range(max(0, self._index(begin)), min(len(self._bins), self._index(end) + 1)):
            each = self._bins[index]
            column = int((self._origin + index * self._stride - begin) / (end - begin) * count)
            if each is not None and 0 <= column <= count:
                column = min(column, count - 1)
                before = columns[column]
                columns[column] = before.with_(each) if before else each
        return columns

    def _index(self, place: float) -> int:
        return int((place - self._origin) // self._stride)

    def _halve(self) -> None:
        self._stride *= 2
        pairs = zip(self._bins[::2], [*self._bins[1::2], None], strict=False)
        self._bins = [_together(one, other) for one, other in pairs]


def smoothed(columns: Sequence[Bin | None], weight: float) -> list[float | None]:
    """The moving average of columns' means; a column without values has none.

    Args:
        columns: of a series.
        weight: of what was before, 0 to 1.
    """
    average, seen, shown = 0.0, 0.0, list[float | None]()
    for each in columns:
        if each is None:
            shown.append(None)
            continue
        average, seen = weight * average + (1 - weight) * each.mean, weight * seen + (1 - weight)
        shown.append(average / seen)
    return shown


def _together(one: Bin | None, other: Bin | None) -> Bin | None:
    return one.with_(other) if one and other else one or other
