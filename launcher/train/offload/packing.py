"""Gradients on their way into a bucket, several at a time."""

import torch
from torch._utils import _unflatten_dense_tensors


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
