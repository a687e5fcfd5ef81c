"""SDXL's U-Net, its configuration and its layers: for a model that is not here yet."""

from typing import Any

WIDTHS, DEPTHS = (320, 640, 1280), (0, 2, 10)
"""Channels, and transformer blocks of an attention, of each level: ``unet/config.json`` of SDXL base 1.0."""
RESNETS = 2
"""Of a level on the way down; it has one more on the way up, and the middle has as many."""
TIME, TEXT, ADDED = 1280, 2048, 2816
"""Widths of the time embedding, of the prompt embeddings, and of pooled prompt and time ids together."""
CONFIG: dict[str, Any] = {
    "block_out_channels": WIDTHS,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": RESNETS,
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": TEXT,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": ADDED,
    "use_linear_projection": True,
}
"""What of its configuration is not diffusers' default."""

Layers = dict[str, tuple[int, ...]]


def sdxl_layers() -> Layers:
    """Weights of its linear layers (out, in) and convolutions (out, in, height, width), by name."""
    first = WIDTHS[0]
    layers: Layers = {"conv_in": (first, 4, 3, 3), "conv_out": (4, first, 3, 3)}
    for name, inputs in (("time_embedding", first), ("add_embedding", ADDED)):
        layers |= {f"{name}.linear_1": (TIME, inputs), f"{name}.linear_2": (TIME, TIME)}
    width, skipped = first, [first]
    for level, (outputs, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        block = f"down_blocks.{level}"
        for number in range(RESNETS):
            layers |= _resnet(f"{block}.resnets.{number}", width, outputs)
            layers |= _attention(f"{block}.attentions.{number}", outputs, depth)
            width = outputs
            skipped.append(width)
        if outputs != WIDTHS[-1]:
            layers[f"{block}.downsamplers.0.conv"] = (width, width, 3, 3)
            skipped.append(width)
    for number in range(RESNETS):
        layers |= _resnet(f"mid_block.resnets.{number}", width, width)
    layers |= _attention("mid_block.attentions.0", width, DEPTHS[-1])
    for level, (outputs, depth) in enumerate(zip(reversed(WIDTHS), reversed(DEPTHS), strict=True)):
        block = f"up_blocks.{level}"
        for number in range(RESNETS + 1):
            layers |= _resnet(f"{block}.resnets.{number}", width + skipped.pop(), outputs)
            layers |= _attention(f"{block}.attentions.{number}", outputs, depth)
            width = outputs
        if outputs != WIDTHS[0]:
            layers[f"{block}.upsamplers.0.conv"] = (width, width, 3, 3)
    return layers


def _resnet(name: str, inputs: int, outputs: int) -> Layers:
    layers: Layers = {
        f"{name}.conv1": (outputs, inputs, 3, 3),
        f"{name}.time_emb_proj": (outputs, TIME),
        f"{name}.conv2": (outputs, outputs, 3, 3),
    }
    if inputs != outputs:
        layers[f"{name}.conv_shortcut"] = (outputs, inputs, 1, 1)
    return layers


def _attention(name: str, width: int, depth: int) -> Layers:
    """Each block attends to itself, then to the prompt, and ends with a gated linear unit."""
    layers: Layers = {f"{name}.{projection}": (width, width) for projection in ("proj_in", "proj_out") if depth}
    for number in range(depth):
        block = f"{name}.transformer_blocks.{number}"
        for attention, source in (("attn1", width), ("attn2", TEXT)):
            layers |= {f"{block}.{attention}.{part}": (width, source) for part in ("to_k", "to_v")}
            layers |= {f"{block}.{attention}.{part}": (width, width) for part in ("to_q", "to_out.0")}
        layers |= {f"{block}.ff.net.0.proj": (8 * width, width), f"{block}.ff.net.2": (width, 4 * width)}
    return layers
