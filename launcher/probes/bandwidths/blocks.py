"""SDXL's two kinds of blocks in bf16: what they compute in a second, and what starting them takes."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from torch.utils.flop_counter import FlopCounterMode

from launcher.machine.bandwidths import BlockAtSize, BlockSpeed
from launcher.probes.bandwidths.clock import TIMES, gpu_seconds, host_seconds
from launcher.train.activations import recomputed

TOKENS, TEXT_WIDTH, TIME_WIDTH = 77, 2048, 1280
"""Of SDXL's prompt embeddings, and of its time embedding."""
TINY = (1, 8)
"""Pictures, and side in latent pixels: kernels end before the next is launched."""
Inputs = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of block."""

    make: Callable[[], torch.nn.Module]
    inputs: Callable[[int, int], Inputs]
    """For so many pictures with so many latent pixels a side; what has a gradient comes first."""
    sizes: tuple[tuple[int, int], tuple[int, int]]
    """Pictures and side, small and large."""


def _transformer_inputs(pictures: int, side: int) -> Inputs:
    return {
        "hidden_states": torch.randn(pictures, side * side, 1280),
        "encoder_hidden_states": torch.randn(pictures, TOKENS, TEXT_WIDTH),
    }


def _resnet_inputs(pictures: int, side: int) -> Inputs:
    return {"input_tensor": torch.randn(pictures, 640, side, side), "temb": torch.randn(pictures, TIME_WIDTH)}


TRANSFORMER = Kind(
    lambda: BasicTransformerBlock(1280, 20, 64, cross_attention_dim=TEXT_WIDTH),
    _transformer_inputs,
    ((1, 32), (8, 32)),
)
"""1280 wide, of which SDXL has 60; at 1024 px it has 32 latent pixels a side."""
RESNET = Kind(
    lambda: ResnetBlock2D(in_channels=640, out_channels=640, temb_channels=TIME_WIDTH),
    _resnet_inputs,
    ((1, 64), (8, 64)),
)
"""640 wide, the middle one of three; at 1024 px it has 64 latent pixels a side."""


def block_speed(kind: Kind, device: torch.device) -> BlockSpeed:
    """Measures one kind of block.

    Args:
        kind: of block.
        device: a GPU; on a CPU, where tests go, time that is spent is time that is computed.
    """
    block = kind.make().to(device, torch.bfloat16).train()
    tiny = _inputs(kind, TINY, device)
    plain = _launches(block, lambda: block(**tiny))
    checkpointed = _launches(block, lambda: recomputed(block, *_in_order(block, tiny)))
    small, large = (_at_size(block, _inputs(kind, size, device), device) for size in kind.sizes)
    return BlockSpeed(*plain, *checkpointed, small, large)


def _inputs(kind: Kind, size: tuple[int, int], device: torch.device) -> Inputs:
    made = {name: tensor.to(device, torch.bfloat16) for name, tensor in kind.inputs(*size).items()}
    next(iter(made.values())).requires_grad_()
    return made


def _in_order(block: torch.nn.Module, inputs: Inputs) -> tuple[Any, ...]:
    """As diffusers calls a block that it checkpoints: a transformer block has a mask in between, which is none."""
    first, second = inputs.values()
    return (first, None, second) if isinstance(block, BasicTransformerBlock) else (first, second)


def _launches(block: torch.nn.Module, forward: Callable[[], torch.Tensor]) -> tuple[float, float]:
    """Seconds of a forward and of a backward pass, from Python's first line to the GPU's last kernel."""
    times = []
    for _ in range(1 + 2 * TIMES):
        block.zero_grad()
        begun = time.perf_counter()
        out = forward()
        between = time.perf_counter()
        out.backward(out.detach())  # type: ignore[no-untyped-call]
        times.append((between - begun, time.perf_counter() - between))
        if out.is_cuda:
            torch.cuda.synchronize()
    forwards, backwards = zip(*times[1:], strict=True)
    return min(forwards), min(backwards)


def _at_size(block: torch.nn.Module, inputs: Inputs, device: torch.device) -> BlockAtSize:
    def train() -> None:
        block.zero_grad()
        out = block(**inputs)
        out.backward(out.detach())

    with FlopCounterMode(display=False) as counter:
        out = block(**inputs)
        forward = counter.get_total_flops()
        out.backward(out.detach())
    backward = counter.get_total_flops() - forward
    del out
    seconds = gpu_seconds if device.type == "cuda" else host_seconds
    passing = seconds(lambda: block(**inputs))
    returning = seconds(train) - passing
    return BlockAtSize(forward, backward, forward / passing / 1e12, backward / returning / 1e12)
