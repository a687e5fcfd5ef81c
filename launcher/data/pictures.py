"""A picture of a data set, and which bucket takes it."""

from dataclasses import dataclass
from pathlib import Path

from launcher.data.buckets import Bucketing, Size


@dataclass(frozen=True, slots=True)
class Source:
    """Where pictures come from, and how often each is drawn."""

    name: str
    """Empty where there is one folder only."""
    repeats: int = 0
    """How many times more often than once each is drawn in an epoch."""
    probability: float = 1.0
    """The share of its pictures that an epoch draws, others each time."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture with its caption. Width and height are as a viewer shows it, EXIF rotation applied."""

    path: Path
    caption: str
    width: int
    height: int
    bucket: Size
    """What it is scaled and cropped to."""
    source: Source


class LeftOutError(ValueError):
    """A rule of the settings leaves a picture out."""


@dataclass(frozen=True, slots=True)
class Fitting:
    """Which bucket takes a picture, and which pictures none takes."""

    bucketing: Bucketing
    minimum_size: int = 0
    """In pixels: pictures with a shorter side are left out. 0: those that do not fill their bucket are refused."""
    maximum_aspect: float = 0.0
    """Longer side to shorter: more elongated pictures are left out. 0: those that no bucket comes near are refused."""

    def bucket(self, size: Size) -> Size:
        """The bucket of a picture.

        Raises:
            LeftOutError: a rule leaves it out.
            ValueError: it is refused; both say why, for the person.
        """
        shorter, longer = sorted(size)
        if self.minimum_size and shorter < self.minimum_size:
            raise LeftOutError(f"{size} is below training.minimum_image_size of {self.minimum_size}")
        if self.maximum_aspect and longer > self.maximum_aspect * shorter:
            raise LeftOutError(
                f"{size} is more elongated than training.maximum_aspect_ratio of {self.maximum_aspect:g}"
            )
        bucket = self.bucketing.bucket(*size)
        resolution = self.bucketing.resolution
        if not self.minimum_size and (size.width < bucket.width or size.height < bucket.height):
            of = f"resolution of {resolution}"
            if bucket != (resolution, resolution):
                of = f"bucket of {bucket}"
            raise ValueError(
                f"{size} is smaller than the {of}; use larger pictures, lower training.resolution, or leave such "
                "pictures out with training.minimum_image_size"
            )
        if not self.bucketing.one_square and longer > self.bucketing.maximum_aspect * shorter:
            raise ValueError(
                f"{size} is more elongated than {self.bucketing.maximum_aspect:g} to 1; crop it, or leave such "
                "pictures out with training.maximum_aspect_ratio"
            )
        return bucket
