"""A simulated GPU: what lies on it, of which part, and the most there was of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from launcher.estimate.allocator import Allocator

WEIGHTS, FLATTENED = "weights", "weights while they are flattened"
GATHERED = "weights gathered from the host"
GRADIENTS, BUCKETS, FP32_GRADIENTS = "gradients", "reduce buckets", "gradients in fp32"
REDUCED = "gradients while they are reduced"
STATES = "masters and optimizer states"
ACTIVATIONS = "activations"
CUBLAS = "workspaces of cuBLAS"
NORM_BYTES, FP32 = 8, 4
"""DeepSpeed takes the norm of each gradient in fp64, and hands it to an optimizer on the CPU in fp32."""
LOOKED_AGAIN = 1.002
"""By how much more has to be allocated before it is asked again what could be given back: asking takes a while."""


@dataclass(slots=True)
class Peak:
    """The most that was allocated at once in a phase."""

    allocated: int = 0
    """Bytes."""
    parts: Mapping[str, int] = field(default_factory=dict)
    """Bytes of each part, when that was."""
    reserved: int = 0
    """The most that torch held at once, in bytes."""
    needed: int = 0
    """Of that, the most that torch could not have given back, in bytes."""


@dataclass(slots=True)
class Tensor:
    """Memory that something lies in."""

    part: str
    size: int
    block: int


class Gpu:
    """One GPU as torch sees it."""

    def __init__(self, *, expandable: bool = True) -> None:
        """Nothing lies on it.

        Args:
            expandable: whether torch's segments grow.
        """
        self._memory = Allocator(expandable=expandable)
        self._now: Counter[str] = Counter()
        self._peak = Peak()
        self._reserved = self._looked_at = 0

    def take(self, part: str, size: float, stream: int = 0) -> Tensor:
        """Allocates so many bytes for a part."""
        tensor = Tensor(part, int(size), self._memory.allocate(size, stream))
        self._now[part] += tensor.size
        self._reserved = max(self._reserved, self._memory.reserved)
        if self._memory.allocated > self._peak.allocated:
            self._peak.allocated = self._memory.allocated
            self._peak.parts = Counter(self._now)
            if self._memory.allocated > self._looked_at * LOOKED_AGAIN:
                self._looked_at = self._memory.allocated
                self._peak.needed = max(self._peak.needed, self._memory.needed)
        return tensor

    def give(self, *tensors: Tensor) -> None:
        """Frees what was taken."""
        for tensor in tensors:
            self._memory.release(tensor.block)
            self._now[tensor.part] -= tensor.size

    def passing(self, part: str, size: float, stream: int = 0) -> None:
        """Takes and gives at once."""
        self.give(self.take(part, size, stream))

    def empty_cache(self) -> None:
        """Gives what is free back, as ``torch.cuda.empty_cache`` does."""
        self._memory.empty_cache()

    def count_as(self, tensor: Tensor, part: str) -> None:
        """What was of one part is of another from here on."""
        self._now[tensor.part] -= tensor.size
        self._now[part] += tensor.size
        tensor.part = part

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part now."""
        return {part: size for part, size in self._now.items() if size}

    def phase(self) -> Peak:
        """The peak since the last call."""
        peak, self._peak = self._peak, Peak()
        peak.reserved, self._reserved = self._reserved, self._memory.reserved
        peak.needed, self._looked_at = max(peak.needed, peak.allocated), 0
        return peak


def take_moments(gpu: Gpu, moments: float, elements: float) -> None:
    """An optimizer's state of one tensor, each moment by itself; of Muon's the second is of some weights only."""
    whole = int(moments)
    for share in [1.0] * whole + [moments - whole]:
        if share:
            gpu.take(STATES, FP32 * share * elements)
