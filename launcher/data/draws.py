"""How often each bucket and each source is drawn: what the table shows and the order of training follows.

A bucket passes through its pictures again and again; each batch takes the next ones, over the end of a pass where need
be. So every picture is drawn as often as every other, and none is dropped, however the buckets' sizes divide.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from launcher.data.buckets import Size
from launcher.data.pictures import Picture, Source

SHOWN = 20
"""Rows of the table that a message shows before it sums up the rest."""
OVERSUBSCRIBED = "a step takes some of those more than once, and each is still drawn as often as every other"
NOT_OVERSUBSCRIBED = (
    "lower the batch, add pictures, have fewer buckets with a larger training.aspect_bucket_alignment, or allow it "
    "with training.allow_dataset_oversubscription"
)


@dataclass(frozen=True, slots=True)
class Share:
    """The pictures of one source in one bucket, by their place in the data set."""

    source: Source
    pictures: tuple[int, ...]

    @property
    def rate(self) -> Fraction:
        """Pictures drawn in an epoch, on average."""
        times = (1 + self.source.repeats) * Fraction(self.source.probability).limit_denominator(10**6)
        return len(self.pictures) * times


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is drawn at one size."""

    size: Size
    shares: tuple[Share, ...]

    @property
    def rate(self) -> Fraction:
        """Pictures drawn in an epoch, on average."""
        return sum((share.rate for share in self.shares), Fraction())

    @property
    def pictures(self) -> int:
        """How many different ones it has."""
        return sum(len(share.pictures) for share in self.shares)


def buckets_of(pictures: Sequence[Picture]) -> tuple[Bucket, ...]:
    """The buckets of a data set that have pictures, the tallest first."""
    found: dict[Size, dict[Source, list[int]]] = {}
    for index, picture in enumerate(pictures):
        found.setdefault(picture.bucket, {}).setdefault(picture.source, []).append(index)
    return tuple(
        Bucket(size, tuple(Share(source, tuple(indices)) for source, indices in found[size].items()))
        for size in sorted(found, key=lambda size: (size.aspect, size))
    )


def order_digest(pictures: Sequence[Picture]) -> str:
    """What the order of training follows from beside seed and batch: equal for data sets that are drawn in one order.

    That is which pictures share a bucket, in which order buckets and pictures come, and how often each source is drawn;
    not where the folders lie, nor what a bucket's size is.

    Returns:
        16 hexadecimal digits.
    """
    parents: dict[Source, set[str]] = {}
    for picture in pictures:
        parents.setdefault(picture.source, set()).add(str(picture.path.parent))
    folders = {source: os.path.commonpath(places) for source, places in parents.items()}
    names = [os.path.relpath(picture.path, folders[picture.source]) for picture in pictures]
    content = [
        [(str(share.rate), [names[index] for index in share.pictures]) for share in bucket.shares]
        for bucket in buckets_of(pictures)
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def steps_per_epoch(buckets: Sequence[Bucket], global_batch_size: int) -> float:
    """Optimizer steps in which everything is drawn once, or as often as its source says."""
    return float(sum((bucket.rate for bucket in buckets), Fraction()) / global_batch_size)


def rows(buckets: Sequence[Bucket], global_batch_size: int) -> list[dict[str, object]]:
    """The table, a row for each bucket, as an event carries it."""
    return [
        {
            "size": str(bucket.size),
            "pictures": bucket.pictures,
            "drawn_per_epoch": round(float(bucket.rate), 2),
            "steps_per_epoch": round(float(bucket.rate / global_batch_size), 2),
            "oversubscribed": bucket.pictures < global_batch_size,
        }
        for bucket in buckets
    ]


def table(buckets: Sequence[Bucket], global_batch_size: int) -> str:
    """The table in lines for a person, buckets with the most pictures first where there are many."""
    total, steps = sum(bucket.pictures for bucket in buckets), steps_per_epoch(buckets, global_batch_size)
    shown = sorted(buckets, key=lambda bucket: -bucket.pictures)[:SHOWN] if len(buckets) > SHOWN else buckets
    lines = [
        f"{total} pictures in {len(buckets)} bucket{'s' * (len(buckets) > 1)}; a step takes {global_batch_size} of one "
        f"bucket, an epoch has {steps:.1f} steps",
        "     size  aspect  pictures  drawn an epoch  steps an epoch",
    ]
    lines += [
        f"{bucket.size!s:>9}  {bucket.size.aspect:6.2f}  {bucket.pictures:8}  {float(bucket.rate):14.1f}  "
        f"{float(bucket.rate / global_batch_size):14.1f}"
        for bucket in shown
    ]
    if len(shown) < len(buckets):
        others = total - sum(bucket.pictures for bucket in shown)
        lines.append(f"and {len(buckets) - len(shown)} more with {others} pictures")
    return "\n  ".join([*lines, *_of_sources(buckets)])


def _of_sources(buckets: Sequence[Bucket]) -> list[str]:
    """What an epoch draws of each source, where there are several."""
    shares: dict[str, list[Share]] = {}
    for share in (share for bucket in buckets for share in bucket.shares):
        shares.setdefault(share.source.name, []).append(share)
    return [
        f"{source}: {sum(len(share.pictures) for share in of)} pictures, "
        f"{float(sum((share.rate for share in of), Fraction())):.1f} drawn an epoch"
        for source, of in shares.items()
        if len(shares) > 1
    ]


def oversubscribed(buckets: Sequence[Bucket], global_batch_size: int) -> str:
    """Which buckets have fewer pictures than a step takes, in words; empty where none has."""
    short = [bucket for bucket in buckets if bucket.pictures < global_batch_size]
    if not short:
        return ""
    named = ", ".join(f"{bucket.size} has {bucket.pictures}" for bucket in short[:SHOWN])
    more = f" and {len(short) - SHOWN} more" if len(short) > SHOWN else ""
    have = "has" if len(short) == 1 else "have"
    return (
        f"{len(short)} of {len(buckets)} buckets {have} fewer pictures than the {global_batch_size} that a step takes "
        f"({named}{more})"
    )
