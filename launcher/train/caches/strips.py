"""A VAE's encoder in little memory: its large convolutions in strips of rows, and nothing beside a block's two tensors.

At 1024 x 1024 pixels each tensor of SDXL's first level is 512 MiB in fp32. diffusers holds four at a time, and cuDNN
needs as much again to lay input and output out anew. Here a block holds its input, which becomes its output, and what
lies between its convolutions; normalization, activation, padding and the workspace are a strip's.

The mathematics is the same, as a strip reads the rows next to it and statistics are those of the whole picture: only
the order of sums may differ, in the last bits. Tiles that are blended, as diffusers has them, give other latents.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

STRIP_BYTES = 32 * 2**20
"""What a strip takes at the most, before and after a convolution: a launch is not worth it for much less."""
Zeros = tuple[int, int]
"""Rows of zeros above and below a picture, and as many columns left and right of it."""
AROUND: Zeros = (1, 1)
BELOW_AND_RIGHT: Zeros = (0, 1)
NOWHERE: Zeros = (0, 0)

Fill = Callable[[torch.Tensor, torch.Tensor], object]
"""Writes what a convolution sees into its first argument, from as much of the input."""


def encode_in_strips(encoder: Any) -> None:
    """Replaces the parts of an encoder that are large.

    Args:
        encoder: of a diffusers AutoencoderKL, to be used without gradients from now on.
    """
    encoder.conv_in = _Convolution(encoder.conv_in, AROUND)
    for block in encoder.down_blocks:
        block.resnets = nn.ModuleList(map(_Resnet, block.resnets))
        if block.downsamplers is not None:
            block.downsamplers = nn.ModuleList(_Convolution(each.conv, BELOW_AND_RIGHT) for each in block.downsamplers)


class _Convolution(nn.Module):
    """A convolution with zeros around its input."""

    def __init__(self, convolution: nn.Conv2d, zeros: Zeros) -> None:
        super().__init__()
        self.convolution, self.zeros = convolution, zeros

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        (stride, _), (height, width) = self.convolution.stride, pixels.shape[2:]
        out = _empty(pixels, self.convolution, height // stride, width // stride)
        _convolve(self.convolution, pixels, out, self.zeros, torch.Tensor.copy_, torch.Tensor.copy_)
        return out


class _Resnet(nn.Module):
    """What diffusers' ResnetBlock2D computes in a VAE, where it depends on no time step and is not rescaled."""

    def __init__(self, resnet: Any) -> None:
        super().__init__()
        self.resnet = resnet
        resnet.nonlinearity.inplace = True

    def forward(self, pixels: torch.Tensor, temb: None) -> torch.Tensor:
        """The input is overwritten where the output has its shape."""
        of, (height, width) = self.resnet, pixels.shape[2:]
        inner = _empty(pixels, of.conv1, height, width)
        _convolve(of.conv1, pixels, inner, AROUND, _activated(of.norm1, of.nonlinearity, pixels), torch.Tensor.copy_)
        if of.conv_shortcut is None:
            out = pixels
        else:
            out = _empty(pixels, of.conv_shortcut, height, width)
            _convolve(of.conv_shortcut, pixels, out, NOWHERE, torch.Tensor.copy_, torch.Tensor.copy_)
        _convolve(of.conv2, inner, out, AROUND, _activated(of.norm2, of.nonlinearity, inner), torch.Tensor.add_)
        return out


def _empty(like: torch.Tensor, convolution: nn.Conv2d, height: int, width: int) -> torch.Tensor:
    return like.new_empty(like.shape[0], convolution.out_channels, height, width)


def _activated(norm: nn.GroupNorm, activation: nn.Module, pixels: torch.Tensor) -> Fill:
    """Normalizes by the statistics of all pixels, whatever part of them it is given."""
    pictures, channels = pixels.shape[:2]
    variance, mean = torch.var_mean(pixels.view(pictures, norm.num_groups, -1), dim=2, correction=0)
    each = channels // norm.num_groups
    deviation = torch.rsqrt(variance + norm.eps).repeat_interleave(each, dim=1)
    scale = deviation * norm.weight
    shift = norm.bias - mean.repeat_interleave(each, dim=1) * scale

    def fill(seen: torch.Tensor, rows: torch.Tensor) -> None:
        torch.addcmul(shift[..., None, None], rows, scale[..., None, None], out=seen)
        seen.copy_(activation(seen))  # the same tensor where the activation can be in place, as SiLU can

    return fill


def _convolve(
    convolution: nn.Conv2d,
    pixels: torch.Tensor,
    out: torch.Tensor,
    zeros: Zeros,
    fill: Fill,
    put: Fill,
) -> None:
    """Convolves strip by strip.

    Args:
        convolution: its own padding does not count.
        pixels: (pictures, channels, height, width).
        out: of the size that results.
        zeros: around the pixels.
        fill: brings pixels to what the convolution sees.
        put: brings its result to where it belongs in ``out``.
    """
    (kernel, _), (stride, _), (height, width) = convolution.kernel_size, convolution.stride, pixels.shape[2:]
    before, after = zeros
    row = max(stride * pixels[:, :, 0].nbytes, out[:, :, 0].nbytes)
    rows = max(1, STRIP_BYTES // row)
    for first in range(0, out.shape[2], rows):
        last = min(first + rows, out.shape[2])
        start, end = first * stride - before, (last - 1) * stride - before + kernel
        there = slice(max(start, 0), min(end, height))
        seen = pixels.new_zeros(*pixels.shape[:2], end - start, before + width + after)
        fill(seen[:, :, there.start - start : there.stop - start, before : before + width], pixels[:, :, there])
        put(out[:, :, first:last], nn.functional.conv2d(seen, convolution.weight, convolution.bias, convolution.stride))
        del seen  # before the next is made
