"""Gradients on their way into a bucket, several at a time."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from deepspeed.accelerator import get_accelerator
from torch._utils import _unflatten_dense_tensors

from launcher.config.engine import PACKED_AT_ONCE

Entry = TypeVar("Entry")


class Waiting(Generic[Entry]):
    """What goes into a bucket together, all of it computed on one stream."""

    def __init__(self, fill: Callable[[Any], None]) -> None:
        """Nothing waits.

        Args:
            fill: moves what waits into a bucket of DeepSpeed's, and takes it from here.
        """
        self._fill = fill
        self._entries: list[Entry] = []
        self._elements = 0
        self.stream = get_accelerator().current_stream()
        """Where it was computed; None on a CPU."""

    def add(self, bucket: Any, entry: Entry, elements: int) -> None:
        """Counts a gradient of so many elements in, as its bucket's, and has the bucket filled where it is time."""
        stream = get_accelerator().current_stream()
        if stream != self.stream:  # under torch.compile
            self._fill(bucket)
            self.stream = stream
        self._entries.append(entry)
        self._elements += elements
        bucket.elements += elements
        if self._elements >= PACKED_AT_ONCE:
            self._fill(bucket)

    def take(self) -> tuple[list[Entry], int]:
        """What waits, in the order in which it came, and its elements; nothing waits any more."""
        entries, elements = self._entries, self._elements
        self._entries, self._elements = [], 0
        return entries, elements


def pack(gradients: list[torch.Tensor], flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Copies them one after the other in one launch; a copy of each takes the host as long as a small op each.

    Args:
        gradients: contiguous, of ``flat``'s precision.
        flat: of exactly so many elements.

    Returns:
        Their copies, views of ``flat``.
    """
    copies: tuple[torch.Tensor, ...] = _unflatten_dense_tensors(flat, gradients)  # type: ignore[no-untyped-call]
    torch._foreach_copy_(copies, gradients)
    return copies
