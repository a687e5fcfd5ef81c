"""Which picture each number of a run draws: a function of the seed, the data set and the global batch size.

A step draws from one bucket, the same on every rank. Which one, and which of its pictures, follows from the step alone.
"""

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import floor

import torch

from launcher.data.draws import Share, buckets_of
from launcher.data.pictures import Picture
from launcher.train.seeds import seeded


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, pictures: int) -> tuple[int, ...]:
    """The order in which an epoch goes through so many pictures."""
    return tuple(torch.randperm(pictures, generator=seeded("order", seed, epoch)).tolist())


class Order:
    """The picture of each number, counted over the whole run and all ranks."""

    def __init__(self, pictures: Sequence[Picture], seed: int, global_batch_size: int) -> None:
        """Draws nothing yet.

        Args:
            pictures: the data set.
            seed: of the order.
            global_batch_size: pictures a step takes, all of one bucket.
        """
        self._seed, self._global_batch_size = seed, global_batch_size
        self._buckets = buckets_of(pictures)
        self._rates = [[share.rate for share in bucket.shares] for bucket in self._buckets]
        self._steps = [bucket.rate / global_batch_size for bucket in self._buckets]
        self._drawn = lru_cache(maxsize=2 * len(self._buckets))(self._draw_epoch)
        self._turns = lru_cache(maxsize=2)(self._turns_of_epoch)

    def __getitem__(self, number: int) -> int:
        """The picture's place in the data set."""
        step, offset = divmod(number, self._global_batch_size)
        epoch, place = _epoch_of(self._steps, step)
        bucket, turn = self._turns(epoch)[place]
        epoch, place = _epoch_of(self._rates[bucket], turn * self._global_batch_size + offset)
        return self._drawn(bucket, epoch)[place]

    def _turns_of_epoch(self, epoch: int) -> list[tuple[int, int]]:
        """For each step of an epoch its bucket, and how many steps that bucket had before."""
        had = [floor(epoch * rate) for rate in self._steps]
        buckets = [
            bucket for bucket, rate in enumerate(self._steps) for _ in range(had[bucket], floor((epoch + 1) * rate))
        ]
        turns = []
        for place in torch.randperm(len(buckets), generator=seeded("turns", self._seed, epoch)):
            bucket = buckets[place]
            turns.append((bucket, had[bucket]))
            had[bucket] += 1
        return turns

    def _draw_epoch(self, bucket: int, epoch: int) -> list[int]:
        """What a bucket draws in an epoch of its own, in order."""
        members = [index for share in self._buckets[bucket].shares for index in self._members(share, epoch)]
        return [members[place] for place in epoch_order(self._seed, epoch, len(members))]

    def _members(self, share: Share, epoch: int) -> list[int]:
        pictures, rate = share.pictures, share.rate
        if rate % len(pictures) == 0:
            return list(pictures) * int(rate / len(pictures))
        drawn = []
        for number in range(floor(epoch * rate), floor((epoch + 1) * rate)):
            turn, place = divmod(number, len(pictures))
            drawn.append(pictures[epoch_order(self._seed, turn, len(pictures))[place]])
        return drawn


def _epoch_of(rates: Sequence[Fraction], number: int) -> tuple[int, int]:
    """The epoch in which something is drawn, and its place there, where each of these draws so many in an epoch."""
    epoch = int(number / sum(rates))
    while _drawn_before(rates, epoch + 1) <= number:
        epoch += 1
    return epoch, number - _drawn_before(rates, epoch)


def _drawn_before(rates: Sequence[Fraction], epoch: int) -> int:
    return sum(floor(epoch * rate) for rate in rates)
