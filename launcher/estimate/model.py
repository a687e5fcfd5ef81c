"""The facts of a model that its cost follows from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launcher.errors import InvalidInputError
from launcher.estimate.sdxl import CONFIG, sdxl_layers
from launcher.model_files import (
    COMPONENTS,
    block_widths,
    component_config,
    component_files,
    is_folder,
    read_weights,
)


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Sizes of the U-Net, and of what is exported beside it."""

    parameters: int
    largest_tensor: int
    """Elements."""
    tensors: int
    is_sdxl: bool
    """Whether its blocks are as wide as SDXL's, as are those of what was distilled from it: VAE and text encoders are
    the same, and what activations take by formula is near."""
    other_components_mib: int
    """VAE, text encoders and tokenizers on disk."""
    assumed: bool = False
    """Not read from files: SDXL's own sizes stand in."""
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    """Weights of linear layers (out, in) and of convolutions (out, in, height, width), by the layer's name."""
    config: str = field(default="", repr=False)
    """Of the U-Net, as JSON; SDXL's own where it has SDXL's layers and heads, empty where it is of another kind."""
    pixels_per_latent: int = 64
    """Of a picture, for each pixel of its latents."""


def _as_json(config: Mapping[str, Any]) -> str:
    """Without what diffusers notes about the file, so that equal U-Nets have equal texts."""
    return json.dumps({key: value for key, value in config.items() if not key.startswith("_")}, sort_keys=True)


SDXL = ModelFacts(
    parameters=2_567_463_684,
    largest_tensor=29_491_200,
    tensors=1680,
    is_sdxl=True,
    other_components_mib=3440,
    assumed=True,
    layers=sdxl_layers(),
    config=_as_json(CONFIG),
)
"""SDXL 1.0; VAE and text encoders in fp32."""

SDXL_WIDTHS = [320, 640, 1280]


def read_model_facts(model: str) -> ModelFacts:
    """The facts of a local diffusers folder; SDXL's where the model is not here yet, is a single file or is damaged.

    What is wrong with a model is said where it is checked, beside all other faults, not where it is priced.
    """
    folder = Path(model)
    if not is_folder(folder / "unet"):
        return SDXL
    try:
        weights, widths = read_weights(folder / "unet"), block_widths(folder, "unet")
        config, downscale = component_config(folder, "unet"), 2 ** (len(block_widths(folder, "vae")) - 1)
    except InvalidInputError:
        return SDXL
    others = sum(
        file.stat().st_size for name in COMPONENTS if name != "unet" for file in component_files(folder / name)
    )
    return ModelFacts(
        weights.parameters,
        weights.largest,
        weights.tensors,
        is_sdxl=widths == SDXL_WIDTHS,
        other_components_mib=-(-others // 2**20),
        layers=weights.layers,
        config=_config(config, weights.layers),
        pixels_per_latent=downscale**2,
    )


def _config(config: Mapping[str, Any], layers: Mapping[str, tuple[int, ...]]) -> str:
    if config.get("addition_embed_type") != CONFIG["addition_embed_type"]:
        return ""
    heads = list(CONFIG["attention_head_dim"])
    return SDXL.config if layers == SDXL.layers and config.get("attention_head_dim") == heads else _as_json(config)
