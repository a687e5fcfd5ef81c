"""What engines keep on a GPU that holds all weights: ZeRO stages 0 to 2, and plain PyTorch.

Source: ``runtime/zero/stage_1_and_2.py`` of DeepSpeed 0.19.8, ``launcher.train.offload``, and this launcher's own plain
engine.
"""

from collections.abc import Iterable, Iterator, Sequence

from launcher.config.engine import COPIED_AT_ONCE, PACKED_AT_ONCE
from launcher.estimate.engine_facts import EngineFacts
from launcher.estimate.gpu import (
    BUCKETS,
    FLATTENED,
    FP32,
    FP32_GRADIENTS,
    GRADIENTS,
    NORM_BYTES,
    REDUCED,
    STATES,
    WEIGHTS,
    Gpu,
    Tensor,
    take_moments,
)
from launcher.estimate.trace import Trace

REDUCING = 2
"""DeepSpeed's stream for it, which has memory of its own; with ``overlap_comm`` only."""


class WholeWeights:
    """The engine's part of a playback."""

    def __init__(self, gpu: Gpu, trace: Trace, facts: EngineFacts) -> None:
        """Nothing is there yet.

        Args:
            gpu: it lies on.
            trace: of the U-Net.
            facts: of the engine.
        """
        self._gpu, self._facts, self._frozen = gpu, facts, trace.frozen
        self._parameters = trace.parameters
        self._trained = sum(trace.parameters)
        self._groups = list(_groups(trace.parameters, facts.group)) if facts.stage else []
        """Parameters of each, by number."""
        self._stays = facts.stage == 0 or (facts.stage == 1 and not (facts.overlap and facts.accumulation == 1))
        """Whether gradients are where the backward pass left them until it is over."""
        self._together: Tensor | None = None
        """Where stages 1 and 2 without offload keep this rank's gradients."""
        self._kept: list[tuple[int, Tensor]] = []
        self._buckets: list[Tensor] = []
        self._in_bucket: list[int] = []
        self._waiting: list[tuple[int, Tensor]] = []
        """For others that go into the bucket with them."""
        self._has_states = False

    def start(self) -> None:
        """Weights come; stages 1 and 2 flatten them group by group, and clone this rank's share for its masters."""
        gpu, facts, width = self._gpu, self._facts, self._facts.weight_bytes
        gpu.take(WEIGHTS, width * self._frozen)
        weights = [gpu.take(WEIGHTS, width * size) for size in self._parameters]
        if not facts.stage:
            for size in self._parameters:
                gpu.take(STATES, facts.master_bytes * size)
            return
        for members in self._groups:
            gpu.empty_cache()
            flat = gpu.take(FLATTENED, width * self._elements(members))
            gpu.give(*(weights[each] for each in members))
            share = gpu.take(FLATTENED, width * self._share(members))
            if not facts.offload_optimizer:  # a host makes fp32 of it itself
                gpu.take(STATES, facts.master_bytes * self._share(members))
            gpu.give(share)
            gpu.count_as(flat, WEIGHTS)
        if facts.offload_optimizer:
            passing = gpu.take(REDUCED, width * max(self._parameters))
            if facts.one_pass:
                gpu.give(passing)
        else:  # gradients of zeros, which the first update is prepared with
            gpu.give(*[gpu.take(FP32_GRADIENTS, FP32 * self._share(members)) for members in self._groups])

    def loss(self) -> None:
        """Before the backward pass stages 1 and 2 take their buckets."""
        if self._facts.stage:
            size = self._facts.weight_bytes * self._facts.reduce_bucket
            self._buckets = [self._gpu.take(BUCKETS, size) for _ in range(2 if self._facts.overlap else 1)]

    def gradient(self, parameter: int, tensor: Tensor) -> None:
        """A gradient is whole: it stays, or goes to the bucket."""
        if self._stays:
            self._gpu.count_as(tensor, GRADIENTS)
            self._kept.append((parameter, tensor))
        else:
            self._to_bucket(parameter, tensor)

    def unit(self, number: int, *, begins: bool) -> None:
        """Weights are there: nothing is to be done."""

    def end(self) -> None:
        """The rest is reduced, and the step is taken."""
        gpu, facts = self._gpu, self._facts
        if facts.stage:
            for parameter, tensor in self._kept:
                self._to_bucket(parameter, tensor)
            self._kept = []
            self._reduce()
        gpu.give(*self._buckets)
        self._buckets = []
        if not facts.offload_optimizer:
            self._update()
        gpu.give(*(tensor for _, tensor in self._kept))
        self._kept = []

    def _elements(self, members: Iterable[int]) -> int:
        return sum(self._parameters[each] for each in members)

    def _share(self, members: Iterable[int]) -> float:
        """Elements of a group that this rank updates."""
        return self._elements(members) / self._facts.ranks

    def _to_bucket(self, parameter: int, tensor: Tensor) -> None:
        if sum(self._in_bucket) + self._parameters[parameter] > self._facts.reduce_bucket:
            self._reduce()
        self._in_bucket.append(self._parameters[parameter])
        self._waiting.append((self._parameters[parameter], tensor))
        if not self._facts.one_pass or sum(size for size, _ in self._waiting) >= PACKED_AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        """What waits is in the bucket now."""
        self._gpu.give(*(tensor for _, tensor in self._waiting))
        self._waiting = []

    def _reduce(self) -> None:
        """Gradients of a bucket are averaged, and go to where they are kept."""
        self._pack()
        gpu, facts, stream = self._gpu, self._facts, REDUCING if self._facts.overlap else 0
        if facts.one_pass:
            if facts.accumulation > 1:  # what the host has of them comes up
                at_once = min(sum(self._in_bucket), COPIED_AT_ONCE)
                gpu.passing(REDUCED, facts.weight_bytes * at_once, stream)
        elif facts.offload_optimizer:
            for size in self._in_bucket:
                gpu.passing(REDUCED, NORM_BYTES * size, stream)
                gpu.passing(REDUCED, FP32 * size, stream)
        elif self._together is None:
            self._together = gpu.take(GRADIENTS, facts.weight_bytes * self._trained / facts.ranks, stream)
        self._in_bucket = []

    def _update(self) -> None:
        """Gradients become fp32 first, and then optimizer states come with the first update."""
        if self._facts.stage:
            self._update_groups()
            return
        gpu, facts = self._gpu, self._facts
        in_fp32 = [gpu.take(FP32_GRADIENTS, FP32 * size) for size in self._parameters] if facts.master_bytes else []
        if not self._has_states:
            for size in self._parameters:
                take_moments(gpu, facts.moments, size)
            self._has_states = True
        gpu.give(*in_fp32)

    def _update_groups(self) -> None:
        """Group by group, after the norm of all."""
        gpu, facts = self._gpu, self._facts
        for size in self._parameters:
            gpu.passing(REDUCED, NORM_BYTES * size / facts.ranks)
        for members in self._groups:
            flat = gpu.take(GRADIENTS, facts.weight_bytes * self._share(members))
            in_fp32 = gpu.take(FP32_GRADIENTS, FP32 * self._share(members))
            gpu.give(flat)
            if not self._has_states:
                take_moments(gpu, facts.moments, self._share(members))
            gpu.give(in_fp32)
        self._has_states = True
        if self._together is not None:
            gpu.give(self._together)
            self._together = None


def _groups(parameters: Sequence[int], elements: int | None) -> Iterator[list[int]]:
    """Numbers of parameters in each, as ``launcher.train.groups`` splits them: the last first."""
    if elements is None:
        yield list(range(len(parameters)))
        return
    some: list[int] = []
    held = 0
    for number in reversed(range(len(parameters))):
        if some and held + parameters[number] > elements:
            yield some
            some, held = [], 0
        some.append(number)
        held += parameters[number]
    yield some
