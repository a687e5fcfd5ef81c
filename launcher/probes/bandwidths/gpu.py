"""The first GPU, and the way to it."""

from typing import Any

import torch

from launcher.errors import CannotRunHereError
from launcher.machine.bandwidths import GpuSpeed
from launcher.probes.bandwidths.clock import gpu_seconds, host_seconds

OPS = 2000
COPIED = 1 << 28
"""Bytes that are copied at once."""
PIECES, PIECE = 256, 1 << 22
"""What is not pinned is copied tensor by tensor, waiting for each, and into more memory than a CPU's cache holds: how
many, and bytes of each."""


def gpu_speed(elements: int) -> GpuSpeed | None:
    """Measures the first GPU; None without one.

    Args:
        elements: of the tensors that are copied, converted and updated.

    Raises:
        CannotRunHereError: it has too little free memory for that.
    """
    if not torch.cuda.is_available():
        return None
    try:
        return _measure(torch.device("cuda", 0), elements)
    except torch.OutOfMemoryError as error:
        raise CannotRunHereError(
            "the GPU has less than 4 GiB free, which measuring it takes: end what else runs on it, and try again"
        ) from error


def _measure(device: torch.device, elements: int) -> GpuSpeed:
    from launcher.probes.bandwidths.blocks import RESNET, TRANSFORMER, block_speed  # noqa: PLC0415 - brings diffusers

    up, down = _pinned(device)
    up_pageable, down_pageable = _pageable(device)
    small = torch.zeros(8, device=device)
    return GpuSpeed(
        up_gb_s=up,
        down_gb_s=down,
        up_pageable_gb_s=up_pageable,
        down_pageable_gb_s=down_pageable,
        up_converted_gb_s=_converted(device, elements),
        copy_gb_s=_copied(device),
        adam_elements_s=_updated(device, elements),
        op_seconds=host_seconds(lambda: [small.add_(1) for _ in range(OPS)]) / OPS,
        transformer=block_speed(TRANSFORMER, device),
        resnet=block_speed(RESNET, device),
    )


def _pinned(device: torch.device) -> tuple[float, float]:
    """GB/s up and down."""
    here, there = _bytes(device=device), _bytes(pin_memory=True)
    up = gpu_seconds(lambda: here.copy_(there, non_blocking=True))
    down = gpu_seconds(lambda: there.copy_(here, non_blocking=True))
    return COPIED / up / 1e9, COPIED / down / 1e9


def _pageable(device: torch.device) -> tuple[float, float]:
    """GB/s up and down."""
    here, there = _bytes(PIECE, device=device), list(_bytes(PIECES * PIECE).view(PIECES, PIECE))
    up = host_seconds(lambda: [here.copy_(piece) for piece in there])
    down = host_seconds(lambda: [piece.copy_(here) for piece in there])
    return PIECES * PIECE / up / 1e9, PIECES * PIECE / down / 1e9


def _converted(device: torch.device, elements: int) -> float:
    """GB/s of bf16."""
    masters = torch.ones(elements, pin_memory=True)
    weights = torch.empty(elements, dtype=torch.bfloat16, device=device)
    return 2 * elements / host_seconds(lambda: weights.copy_(masters)) / 1e9


def _copied(device: torch.device) -> float:
    """GB/s read and written."""
    source, target = _bytes(device=device), _bytes(device=device)
    return 2 * COPIED / gpu_seconds(lambda: target.copy_(source)) / 1e9


def _updated(device: torch.device, elements: int) -> float:
    """Elements a second."""
    parameter = torch.nn.Parameter(torch.ones(elements, device=device))
    parameter.grad = torch.ones_like(parameter)
    return elements / gpu_seconds(torch.optim.AdamW([parameter], fused=True).step)


def _bytes(size: int = COPIED, **where: Any) -> torch.Tensor:
    """Zeros: pages that nobody wrote to are not there yet."""
    return torch.zeros(size, dtype=torch.uint8, **where)
