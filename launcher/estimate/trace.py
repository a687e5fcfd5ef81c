"""What a training step of a U-Net allocates and frees, in order; sizes follow from batch and picture.

Traced by :mod:`launcher.probes.trace` on tensors without memory; exact for every batch and every size in steps of
64 px. SDXL's come with the package, for each granularity of gradient checkpointing: in half precision, in fp32, and of
the LoRA that is the default.
"""

import gzip
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

SHIPPED = Path(__file__).parent / "traces"


class Kind(IntEnum):
    """What happens."""

    ALLOCATE = 0
    """The next tensor, of the size with this index."""
    FREE = 1
    """The tensor with this number: the first is 0."""
    GRADIENT = 2
    """The gradient of the parameter with this index is whole, and handed over; a FREE of it follows."""
    ENTER = 3
    """The module with this index begins its forward pass."""
    LEAVE = 4
    ENTER_BACKWARD = 5
    LEAVE_BACKWARD = 6
    LOSS = 7
    """The forward pass is over."""


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of a tensor: some, some more for each picture, and some for each of its latent pixels."""

    fixed: int
    per_picture: int
    per_latent: float

    def at(self, pictures: int, latents: int) -> int:
        """Bytes for so many pictures of so many latent pixels (height times width, in eighths of the picture's)."""
        return round(self.fixed + pictures * (self.per_picture + self.per_latent * latents))


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One optimizer step of one micro-batch: forward, loss, backward. Each is equal to itself alone."""

    events: Sequence[tuple[int, int]]
    """Kind and index."""
    sizes: Sequence[Size]
    parameters: Sequence[int]
    """Elements of each trained parameter."""
    modules: Sequence[Sequence[int]]
    """Elements of each parameter that a module holds itself, by module."""
    parents: Sequence[int]
    """The module that each is part of; -1 for the U-Net."""
    blocks: Sequence[bool]
    """Whether a module is a transformer block or a resnet."""
    linears: Sequence[bool]
    """Whether a module is a linear layer, whose first parameter is the matrix."""

    @property
    def frozen(self) -> int:
        """Parameters that are computed with and not trained."""
        return sum(map(sum, self.modules)) - sum(self.parameters)

    def to_bytes(self) -> bytes:
        """As a file holds it."""
        return gzip.compress(json.dumps(asdict(self), separators=(",", ":")).encode(), mtime=0)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Trace":
        """Reads what :meth:`to_bytes` wrote."""
        read = json.loads(gzip.decompress(content))
        read["sizes"] = [Size(**size) for size in read["sizes"]]
        return cls(**read)


@cache
def shipped(granularity: str, kind: str = "") -> Trace:
    """SDXL's U-Net.

    Args:
        granularity: of gradient checkpointing: ``none``, ``transformer_blocks`` or ``all``.
        kind: empty in half precision, all of it trained; ``fp32``; or ``lora``, the default one in half precision.
    """
    return Trace.from_bytes((SHIPPED / f"{'-'.join(filter(None, ['sdxl', kind, granularity]))}.json.gz").read_bytes())
