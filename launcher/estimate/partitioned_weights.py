"""What ZeRO stage 3 keeps on a GPU: weights are fetched for each module, some ahead, and released after it.

Source: ``stage3.py``, ``partition_parameters.py`` and ``runtime/comm/coalesced_collectives.py`` of DeepSpeed 0.19.8,
and ``launcher.train.offload``.
"""

from collections import deque

from launcher.config.engine import COPIED_AT_ONCE
from launcher.estimate.engine_facts import EngineFacts
from launcher.estimate.fetching import Fetching
from launcher.estimate.gpu import (
    BUCKETS,
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
from launcher.estimate.units import Units

REDUCING = 2
"""DeepSpeed's stream for it, which has memory of its own; with ``overlap_comm`` only."""
COPIES = 2
"""Of a weight, besides this rank's part of it, while it is taken apart: at SDXL's largest 169 MiB are allocated on one
H200, 141 on each of two."""
LATE = 4
"""Passes through modules until a gradient is copied into the bucket, where that waits for other ranks. Fitted to
pictures of 128 px on two H200s, blocks fetched whole; between the activations of larger ones gradients find room."""


class PartitionedWeights:
    """The engine's part of a playback."""

    def __init__(self, gpu: Gpu, trace: Trace, units: Units, facts: EngineFacts) -> None:
        """Nothing is there yet.

        Args:
            gpu: it lies on.
            trace: of the U-Net.
            units: of the U-Net too.
            facts: of the engine.
        """
        self._gpu, self._facts = gpu, facts
        self._parameters, self._held = trace.parameters, units.sizes
        self._fetching = Fetching(gpu, units, facts)
        self._in_bucket: list[int] = []
        self._late: deque[tuple[int, Tensor]] = deque()
        """Gradients that are yet to be copied into the bucket, and the pass they came in."""
        self._begun = 0
        """The pass that began last."""
        self._has_states = False

    def start(self) -> None:
        """The model is taken apart weight by weight, or comes to the GPU whole and is taken apart there."""
        gpu, facts, width = self._gpu, self._facts, self._facts.weight_bytes
        if facts.weights_begin_whole:
            gpu.give(*[gpu.take(WEIGHTS, width * size) for size in self._held])
            gpu.empty_cache()
        for size in self._held:
            gpu.give(*[gpu.take(WEIGHTS, width * part) for part in (*[size] * COPIES, size / facts.ranks)])
        staying = self._fetching.staying if facts.offload_param else sum(self._held) / facts.ranks
        gpu.take(WEIGHTS, width * staying)
        gpu.take(BUCKETS, width * facts.reduce_bucket)
        if not facts.offload_optimizer:
            share = sum(self._parameters) / facts.ranks
            gpu.take(STATES, facts.master_bytes * share)
            gpu.take(GRADIENTS, width * share)

    def loss(self) -> None:
        """Buckets are there since the start."""

    def unit(self, number: int, *, begins: bool) -> None:
        """Weights are fetched where a pass through a unit begins, and released where it ends."""
        if begins:
            self._begun = number
            while self._late and self._late[0][0] < number - LATE:
                self._gpu.give(self._late.popleft()[1])
            self._fetching.begin(number)
        else:
            self._fetching.end(number)

    def gradient(self, parameter: int, tensor: Tensor) -> None:
        """A gradient is whole, and goes to the bucket: of one rank at once, as those of a block come together."""
        size = self._parameters[parameter]
        if sum(self._in_bucket) + size > self._facts.reduce_bucket:
            self._reduce()
        self._in_bucket.append(size)
        self._late.append((self._begun, tensor))
        if self._facts.ranks == 1 or not (self._facts.overlap and self._facts.one_pass):
            self._copied()

    def end(self) -> None:
        """The rest is reduced, and the step is taken."""
        self._copied()
        self._reduce()
        self._fetching.over()
        if not self._facts.offload_optimizer:
            share = sum(self._parameters) / self._facts.ranks
            gradients = self._gpu.take(FP32_GRADIENTS, FP32 * min(share, self._facts.sub_group))
            if not self._has_states:
                take_moments(self._gpu, self._facts.moments, share)
                self._has_states = True
            self._gpu.give(gradients)

    def _copied(self) -> None:
        """No gradient waits any more."""
        self._gpu.give(*(tensor for _, tensor in self._late))
        self._late.clear()

    def _reduce(self) -> None:
        """Gradients of a bucket are copied together and averaged, where there are several ranks, and handed over."""
        gpu, facts, stream = self._gpu, self._facts, REDUCING if self._facts.overlap else 0
        width, elements = facts.weight_bytes, sum(self._in_bucket)
        alone = facts.one_pass and facts.ranks == 1
        together = [] if alone else [gpu.take(REDUCED, width * elements, stream)]
        if facts.one_pass:
            if facts.accumulation > 1:  # what the host has of them comes up
                gpu.passing(REDUCED, width * min(elements / facts.ranks, COPIED_AT_ONCE), stream)
        elif facts.offload_optimizer:
            for size in self._in_bucket:
                part = gpu.take(REDUCED, width * size / facts.ranks, stream)
                for each in (NORM_BYTES, FP32):
                    gpu.passing(REDUCED, each * size / facts.ranks, stream)
                gpu.give(part)
        gpu.give(*together)
        self._in_bucket = []
