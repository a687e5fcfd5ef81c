"""The facts of a model that its cost follows from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from launcher.errors import InvalidInputError
from launcher.estimate.sdxl import sdxl_layers
from launcher.model_files import COMPONENTS, block_widths, component_files, is_folder, read_weights


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Sizes of the U-Net, and of what is exported beside it."""

    parameters: int
    largest_tensor: int
    """Elements."""
    tensors: int
    is_sdxl: bool
    """Whether the activations measured for SDXL hold."""
    other_components_mib: int
    """VAE, text encoders and tokenizers on disk."""
    assumed: bool = False
    """Not read from files: SDXL's own sizes stand in."""
    layers: Mapping[str, tuple[int, ...]] = field(default_factory=dict, repr=False)
    """Weights of linear layers (out, in) and of convolutions (out, in, height, width), by the layer's name."""


SDXL = ModelFacts(
    parameters=2_567_463_684,
    largest_tensor=29_491_200,
    tensors=1680,
    is_sdxl=True,
    other_components_mib=3440,
    assumed=True,
    layers=sdxl_layers(),
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
    except InvalidInputError:
        return SDXL
    others = sum(
        file.stat().st_size for name in COMPONENTS if name != "unet" for file in component_files(folder / name)
    )
    is_sdxl = widths == SDXL_WIDTHS
    return ModelFacts(
        weights.parameters, weights.largest, weights.tensors, is_sdxl, -(-others // 2**20), layers=weights.layers
    )
