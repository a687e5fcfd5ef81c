"""Aspect buckets: the sizes that pictures are scaled and cropped to, so that little of each is cut off.

Buckets are aligned to so many pixels and have the pixel area of the resolution's square, or just less, as those that
SDXL was trained on (Podell et al. 2023, section 2.3 and appendix I). Each picture goes to the bucket whose aspect is
nearest to its own.
"""

import math
from bisect import bisect
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

MAXIMUM_ASPECT = 4.0
"""The most elongated bucket, longer side to shorter: that of SDXL's own list, 512 x 2048."""


class Size(NamedTuple):
    """Of a picture or a bucket, in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def aspect(self) -> float:
        """Width to height."""
        return self.width / self.height

    @property
    def pixels(self) -> int:
        """Their number."""
        return self.width * self.height


@dataclass(frozen=True, slots=True)
class Bucketing:
    """How pictures are shared out into buckets."""

    resolution: int
    """In pixels: the side of a square."""
    square: bool = False
    """One bucket, the square of the resolution: the middle of each picture."""
    shorter_side: bool = False
    """The resolution is the shorter side of every bucket, not the side of a square of the same area."""
    alignment: int = 64
    """What sides are multiples of, in pixels."""
    maximum_aspect: float = MAXIMUM_ASPECT
    """Longer side to shorter, of buckets."""

    @property
    def one_square(self) -> bool:
        """Whether there is one bucket, of exactly the resolution. Below the alignment there is no choice."""
        return self.square or self.resolution < self.alignment

    def sizes(self) -> tuple[Size, ...]:
        """Every bucket, the tallest first."""
        return _sizes(self)

    def bucket(self, width: int, height: int) -> Size:
        """The bucket whose aspect is nearest to a picture's, by their ratio."""
        sizes, aspects = _sizes(self), _aspects(self)
        place = bisect(aspects, math.log(width / height))
        nearby = range(max(0, place - 1), min(len(sizes), place + 1))
        return sizes[min(nearby, key=lambda index: abs(aspects[index] - math.log(width / height)))]

    @property
    def largest(self) -> int:
        """Pixels of the largest bucket."""
        return max(size.pixels for size in _sizes(self))


@lru_cache(maxsize=64)
def _sizes(bucketing: Bucketing) -> tuple[Size, ...]:
    side, step = bucketing.resolution, bucketing.alignment
    if bucketing.one_square:
        return (Size(side, side),)

    def aligned(length: int) -> int:
        return length // step * step

    if bucketing.shorter_side:
        shorter = aligned(side)
        pairs = {(shorter, length) for length in range(shorter, int(shorter * bucketing.maximum_aspect) + 1, step)}
    else:
        pairs = {(shorter, aligned(side * side // shorter)) for shorter in range(step, side + 1, step)}
    wide = [Size(max(pair), min(pair)) for pair in pairs if max(pair) <= bucketing.maximum_aspect * min(pair)]
    wide = wide or [Size(aligned(side), aligned(side))]
    tall = [Size(size.height, size.width) for size in wide]
    return tuple(sorted({*wide, *tall}, key=lambda size: (size.aspect, size.width)))


@lru_cache(maxsize=64)
def _aspects(bucketing: Bucketing) -> tuple[float, ...]:
    return tuple(math.log(size.aspect) for size in _sizes(bucketing))
