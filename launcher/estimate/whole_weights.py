"""What engines keep on a GPU that holds all weights: ZeRO stages 0 to 2, and plain PyTorch.

Source: ``runtime/zero/stage_1_and_2.py`` of DeepSpeed 0.19.8, and this launcher's own plain engine.
"""

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
        self._share = self._trained / facts.ranks if facts.stage else self._trained
        """Elements that this rank updates."""
        self._kept: list[Tensor] = []
        self._buckets: list[Tensor] = []
        self._in_bucket: list[int] = []
        self._has_states = False

    def start(self) -> None:
        """Weights come; stages 1 and 2 flatten them, and clone this rank's share to make masters of it."""
        gpu, facts, width = self._gpu, self._facts, self._facts.weight_bytes
        gpu.take(WEIGHTS, width * self._frozen)
        weights = [gpu.take(WEIGHTS, width * size) for size in self._parameters]
        if not facts.stage:
            for size in self._parameters:
                gpu.take(STATES, facts.master_bytes * size)
            return
        flat = gpu.take(FLATTENED, width * self._trained)
        gpu.give(*weights)
        share = gpu.take(FLATTENED, width * self._share)
        if facts.offload_optimizer:
            gpu.take(REDUCED, width * max(self._parameters))
        else:
            gpu.take(STATES, facts.master_bytes * self._share)
        gpu.give(share)
        if not facts.offload_optimizer:  # gradients of zeros, which the first update is prepared with
            gpu.passing(FP32_GRADIENTS, FP32 * self._share)
        gpu.count_as(flat, WEIGHTS)

    def loss(self) -> None:
        """Before the backward pass stages 1 and 2 take their buckets."""
        if self._facts.stage:
            size = self._facts.weight_bytes * self._facts.reduce_bucket
            self._buckets = [self._gpu.take(BUCKETS, size) for _ in range(2 if self._facts.overlap else 1)]

    def gradient(self, parameter: int, tensor: Tensor) -> None:
        """A gradient is whole: below stage 2 it stays until the step."""
        if self._facts.stage:
            if sum(self._in_bucket) + self._parameters[parameter] > self._facts.reduce_bucket:
                self._reduce()
            self._in_bucket.append(self._parameters[parameter])
        if self._facts.stage < 2:
            self._gpu.count_as(tensor, GRADIENTS)
            self._kept.append(tensor)
        else:
            self._gpu.give(tensor)

    def unit(self, number: int, *, begins: bool) -> None:
        """Weights are there: nothing is to be done."""

    def end(self) -> None:
        """The rest is reduced, and the step is taken."""
        self._reduce()
        self._gpu.give(*self._buckets)
        self._buckets = []
        if not self._facts.offload_optimizer:
            self._update()
        self._gpu.give(*self._kept)
        self._kept = []

    def _reduce(self) -> None:
        for size in self._in_bucket:
            if self._facts.offload_optimizer:
                self._gpu.passing(REDUCED, NORM_BYTES * size)
                self._gpu.passing(REDUCED, FP32 * size)
            elif self._facts.stage == 2:
                self._kept.append(self._gpu.take(GRADIENTS, self._facts.weight_bytes * size / self._facts.ranks))
        self._in_bucket = []

    def _update(self) -> None:
        """Gradients become fp32 first, and then optimizer states come with the first update."""
        gpu, facts = self._gpu, self._facts
        updated: list[float] = [self._share] if facts.stage else list(map(float, self._parameters))
        in_fp32: list[Tensor] = []
        if facts.stage:
            together = gpu.take(GRADIENTS, facts.weight_bytes * self._share)
            in_fp32.append(gpu.take(FP32_GRADIENTS, FP32 * self._share))
            gpu.give(together, *self._kept)
            self._kept = []
        elif facts.master_bytes:
            in_fp32 += [gpu.take(FP32_GRADIENTS, FP32 * size) for size in updated]
        if not self._has_states:
            for size in updated:
                take_moments(gpu, facts.moments, size)
            self._has_states = True
        gpu.give(*in_fp32)
