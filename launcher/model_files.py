"""What a diffusers folder holds, read without torch."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import InvalidInputError

COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
"""What fine-tuning SDXL needs of a pipeline."""

WEIGHTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of a component, from its safetensors headers."""

    parameters: int
    tensors: int
    largest: int
    """Elements of the largest tensor."""


def check_components(folder: Path) -> None:
    """Refuses a diffusers folder that lacks something, before anything of it is loaded.

    Raises:
        InvalidInputError: names the folder and everything that is missing.
    """
    if not (folder / "model_index.json").is_file():
        raise InvalidInputError(
            f"{folder} is not a diffusers model: it has no model_index.json. Give the folder that a "
            "pipeline's save_pretrained wrote, a .safetensors file, or a hub id"
        )
    missing = [name for name in COMPONENTS if not _is_there(folder, name)]
    if missing:
        raise InvalidInputError(
            f"{folder} lacks {', '.join(missing)}: training SDXL needs {', '.join(COMPONENTS)}, each with its "
            "configuration and weights; copy what is missing from the model it came from"
        )


def _is_there(folder: Path, component: str) -> bool:
    inside = folder / component
    if component == "scheduler":
        return (inside / "scheduler_config.json").is_file()
    if component in WEIGHTS:
        return (inside / "config.json").is_file() and bool(weight_files(inside))
    return (inside / "vocab.json").is_file() or (inside / "tokenizer.json").is_file()


def weight_files(component: Path) -> list[Path]:
    """The weight files a component is loaded from, half-precision variants left out where full ones are."""
    safe = sorted(component.glob("*.safetensors"))
    full = [path for path in safe if ".fp16." not in path.name]
    return full or safe or sorted(component.glob("*.bin"))


def component_config(folder: Path, component: str) -> dict[str, Any]:
    """A component's configuration."""
    name = "scheduler_config.json" if component == "scheduler" else "config.json"
    try:
        config: dict[str, Any] = json.loads((folder / component / name).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{folder / component / name} cannot be read: {error}; copy it again") from error
    return config


def read_weights(component: Path) -> Weights:
    """Counts a component's parameters from its safetensors headers, without reading the weights.

    Raises:
        InvalidInputError: a file is no whole safetensors file, or there is none.
    """
    shapes = [shape for path in weight_files(component) for shape in _shapes(path)]
    if not shapes:
        raise InvalidInputError(f"{component} has no safetensors weights")
    sizes = [_elements(shape) for shape in shapes]
    return Weights(parameters=sum(sizes), tensors=len(sizes), largest=max(sizes))


def _shapes(path: Path) -> list[list[int]]:
    """Tensor shapes of a safetensors file: eight bytes of header length, then the header as JSON."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("the header is cut off")
            header = json.loads(file.read(length))
        described = [entry for name, entry in header.items() if name != "__metadata__"]
        end = 8 + length + max((entry["data_offsets"][1] for entry in described), default=0)
        if path.stat().st_size < end:
            raise ValueError(f"{path.stat().st_size} of {end} bytes are there")
        return [[int(side) for side in entry["shape"]] for entry in described]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise InvalidInputError(f"{path} is not a whole safetensors file: {error}; copy it again") from error


def _elements(shape: list[int]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def resolution_step(folder: Path) -> int:
    """What a training resolution must be a multiple of: the VAE's downscale times the U-Net's.

    Raises:
        InvalidInputError: a configuration cannot be read, or is of another kind of model.
    """
    return _downscale(folder, "vae") * _downscale(folder, "unet")


def _downscale(folder: Path, component: str) -> int:
    try:
        blocks = len(component_config(folder, component)["block_out_channels"])
    except (KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{folder / component / 'config.json'} has no list of block_out_channels; copy it again from the model"
        ) from error
    return int(2 ** (blocks - 1))
