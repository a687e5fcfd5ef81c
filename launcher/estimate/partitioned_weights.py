"""What ZeRO stage 3 keeps on a GPU: weights are fetched for each module, some ahead, and released after it.

Source: ``stage3.py``, ``partition_parameters.py`` and ``runtime/comm/coalesced_collectives.py`` of DeepSpeed 0.19.8,
and ``launcher.train.offload``.
"""

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
COPIES = 3
"""Of a weight, while it is taken apart: 169 MiB are allocated at SDXL's largest, measured on an H200."""


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
        self._has_states = False

    def start(self) -> None:
        """The model is taken apart weight by weight, or comes to the GPU whole and is taken apart there."""
        gpu, facts, width = self._gpu, self._facts, self._facts.weight_bytes
        if facts.weights_begin_whole:
            gpu.give(*[gpu.take(WEIGHTS, width * size) for size in self._held])
            gpu.empty_cache()
        for size in self._held:
            gpu.give(*[gpu.take(WEIGHTS, width * size) for _ in range(COPIES)])
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
            self._fetching.begin(number)
        else:
            self._fetching.end(number)

    def gradient(self, parameter: int, tensor: Tensor) -> None:
        """A gradient is whole, and goes to the bucket; that some wait there is not played: a block's come at once."""
        size = self._parameters[parameter]
        if sum(self._in_bucket) + size > self._facts.reduce_bucket:
            self._reduce()
        self._in_bucket.append(size)
        self._gpu.give(tensor)

    def end(self) -> None:
        """The rest is reduced, and the step is taken."""
        self._reduce()
        self._fetching.over()
        if not self._facts.offload_optimizer:
            share = sum(self._parameters) / self._facts.ranks
            gradients = self._gpu.take(FP32_GRADIENTS, FP32 * min(share, self._facts.sub_group))
            if not self._has_states:
                take_moments(self._gpu, self._facts.moments, share)
                self._has_states = True
            self._gpu.give(gradients)

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
