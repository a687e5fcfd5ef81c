"""What a U-Net computes for one picture, from the names and shapes of its layers; a multiply and an add are two.

What counts are matrix products, convolutions and attention; ``torch.utils.flop_counter`` counts the same.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

TOKENS = 77
"""Of a caption."""
TRANSFORMER, RESNET, OTHER = "transformer blocks", "resnets", "the rest"
NO_INPUT_GRADIENT = (
    "conv_in",
    "time_embedding.linear_1",
    "add_embedding.linear_1",
    "attn2.to_k",
    "attn2.to_v",
)
"""How the names of layers end that read the batch itself, which has no gradient."""
FLASH_BACKWARD = 2.5
"""Backward of attention, of its forward: flash attention computes the scores again."""


@dataclass(slots=True)
class Flops:
    """Of all blocks of a kind."""

    blocks: int = 0
    forward: float = 0
    backward: float = 0
    """Without what gradient checkpointing adds."""
    recomputed: float = 0
    """What it adds: forward again, but for the last product of a block, which nothing waits for."""


def flops(layers: Mapping[str, tuple[int, ...]], latents: int, *, frozen: bool = False) -> dict[str, Flops]:
    """By kind of block: :data:`TRANSFORMER`, :data:`RESNET` and :data:`OTHER`.

    Args:
        layers: weights of linear layers (out, in) and convolutions (out, in, height, width), by name.
        latents: of a picture: height times width in latent pixels.
        frozen: whether the weights have no gradient, as beside a LoRA.
    """
    kinds = {TRANSFORMER: Flops(), RESNET: Flops(), OTHER: Flops()}
    deepest = max((_number(name) for name in layers if name.startswith("down_blocks.")), default=0)
    for name, shape in layers.items():
        kind = kinds[_kind(name)]
        pixels = latents / 4 ** _level(name, deepest)
        product = 2 * math.prod(shape) * _positions(name, pixels)
        gradients = (0 if frozen else 1) + (0 if name.endswith(NO_INPUT_GRADIENT) else 1)
        attention = 4 * pixels * _attended(name, pixels) * shape[0]
        kind.forward += product + attention
        kind.backward += gradients * product + FLASH_BACKWARD * attention
        if kind is not kinds[OTHER]:
            kind.recomputed += attention + (0 if _is_last(name, layers) else product)
        kind.blocks += name.endswith((".ff.net.2", ".conv2"))
    return kinds


def _kind(name: str) -> str:
    if ".transformer_blocks." in name:
        return TRANSFORMER
    return RESNET if ".resnets." in name else OTHER


def _number(name: str) -> int:
    return int(name.split(".")[1])


def _level(name: str, deepest: int) -> int:
    """How often the sides of what a layer makes are halved."""
    if name.startswith("down_blocks."):
        return _number(name) + (".downsamplers." in name)
    if name.startswith("up_blocks."):
        return deepest - _number(name) - (".upsamplers." in name)
    return deepest if name.startswith("mid_block.") else 0


def _positions(name: str, pixels: float) -> float:
    """How many vectors a layer makes."""
    if "_embedding." in name or name.endswith(".time_emb_proj"):
        return 1
    return TOKENS if name.endswith((".attn2.to_k", ".attn2.to_v")) else pixels


def _attended(name: str, pixels: float) -> float:
    """What each position looks at, counted once an attention."""
    if name.endswith(".attn1.to_q"):
        return pixels
    return TOKENS if name.endswith(".attn2.to_q") else 0


def _is_last(name: str, layers: Mapping[str, tuple[int, ...]]) -> bool:
    block = name.rpartition(".")[0]
    return name.endswith((".ff.net.2", ".conv_shortcut")) or (
        name.endswith(".conv2") and f"{block}.conv_shortcut" not in layers
    )
