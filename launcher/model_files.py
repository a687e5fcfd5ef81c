"""What a diffusers folder holds, read without torch."""

import json
import math
import os
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import InvalidInputError

COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
"""What fine-tuning SDXL needs of a pipeline."""

WEIGHTS = ("unet", "vae", "text_encoder", "text_encoder_2")

HALF_PRECISION = re.compile(r"\.fp16[.-]")
"""In the name of a variant's file, or of one shard of it."""
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, struct.error)
"""What reading JSON and headers of any content can raise."""
DEEPEST = 16
"""More blocks than any U-Net or VAE has."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The tensors of a component, from its safetensors headers."""

    parameters: int
    tensors: int
    largest: int
    """Elements of the largest tensor."""
    layers: Mapping[str, tuple[int, ...]]
    """Weights of linear layers (out, in) and of convolutions (out, in, height, width), by the layer's name."""


def check_components(folder: Path) -> None:
    """Refuses a diffusers folder that lacks something or whose weights are cut off, before anything of it is loaded.

    Raises:
        InvalidInputError: names the folder and everything that is missing, or the first file that is cut off.
    """
    if not is_file(folder / "model_index.json"):
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
    shards = [f"{name}/{shard}" for name in WEIGHTS for shard in missing_shards(folder / name)]
    if shards:
        raise InvalidInputError(f"{folder} lacks {', '.join(shards)}; copy them from the model it came from")
    for name in WEIGHTS:
        for file in weight_files(folder / name):
            if file.suffix == ".safetensors":
                check_whole(file)


def is_folder(path: Path) -> bool:
    """Whether a folder is there; one that cannot be looked at, or whose name cannot be, is not."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises there


def is_file(path: Path) -> bool:
    """Whether a file is there; one that cannot be looked at, or whose name cannot be, is not."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises there


def _is_there(folder: Path, component: str) -> bool:
    inside = folder / component
    if component == "scheduler":
        return is_file(inside / "scheduler_config.json")
    if component in WEIGHTS:
        return is_file(inside / "config.json") and bool(weight_files(inside))
    return is_file(inside / "vocab.json") or is_file(inside / "tokenizer.json")


def weight_files(component: Path) -> list[Path]:
    """The weight files a component is loaded from, half-precision variants left out where full ones are."""
    safe = sorted(component.glob("*.safetensors"))
    full = [path for path in safe if not HALF_PRECISION.search(path.name)]
    return full or safe or sorted(component.glob("*.bin"))


def variant(component: Path) -> str | None:
    """What ``from_pretrained`` has to be told to find a component's weights: ``fp16`` where there are no others."""
    files = weight_files(component)
    return "fp16" if files and all(HALF_PRECISION.search(path.name) for path in files) else None


def component_files(component: Path) -> list[Path]:
    """What an exported pipeline keeps of a component: configuration, vocabulary and the weights it is loaded from."""
    small = [path for suffix in ("json", "txt") for path in component.glob(f"*.{suffix}")]
    return sorted({*small, *weight_files(component)})


def missing_shards(component: Path) -> list[str]:
    """Names of weight files that a component's index lists and that are not there."""
    names: set[str] = set()
    for index in sorted(component.glob("*.safetensors.index.json")):
        try:
            names |= set(json.loads(index.read_bytes())["weight_map"].values())
        except (OSError, *DAMAGED) as error:
            raise InvalidInputError(f"{index} cannot be read: {error}; copy it again") from error
    return sorted(name for name in names if not is_file(component / str(name)))


def component_config(folder: Path, component: str) -> dict[str, Any]:
    """A component's configuration.

    Raises:
        InvalidInputError: it is missing, damaged or no JSON object.
    """
    path = folder / component / ("scheduler_config.json" if component == "scheduler" else "config.json")
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}; copy it again") from error
    if not isinstance(config, dict):
        raise InvalidInputError(f"{path} is no JSON object; copy it again")
    return config


def block_widths(folder: Path, component: str) -> list[int]:
    """Channels of each block of the U-Net or the VAE, from its configuration.

    Raises:
        InvalidInputError: the configuration cannot be read, or is of another kind of model.
    """
    widths = component_config(folder, component).get("block_out_channels")
    if not isinstance(widths, list) or not 1 <= len(widths) <= DEEPEST:
        raise InvalidInputError(
            f"{folder / component / 'config.json'} has no list of block_out_channels; copy it again from the model"
        )
    return widths


def read_weights(component: Path) -> Weights:
    """Counts a component's parameters from its safetensors headers, without reading the weights.

    Raises:
        InvalidInputError: a file is no whole safetensors file, or there is none.
    """
    safe = [path for path in weight_files(component) if path.suffix == ".safetensors"]
    shapes = {name: shape for path in safe for name, shape in tensor_shapes(path).items()}
    if not shapes:
        raise InvalidInputError(
            f"{component} has no safetensors weights; save the model again with safe_serialization=True"
        )
    sizes = [math.prod(shape) for shape in shapes.values()]
    layers = {
        name.removesuffix(".weight"): shape
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) in (2, 4)
    }
    return Weights(parameters=sum(sizes), tensors=len(sizes), largest=max(sizes), layers=layers)


def check_whole(file: Path) -> None:
    """Refuses a safetensors file that is cut off or something else, from its header alone.

    Raises:
        InvalidInputError: names the file and what is wrong with it.
    """
    tensor_shapes(file)


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a safetensors file's tensors by name.

    Raises:
        InvalidInputError: it is cut off or something else.
    """
    _, header = read_header(path)
    try:
        described = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return {name: tuple(int(side) for side in entry["shape"]) for name, entry in described.items()}
    except DAMAGED as error:
        raise _not_whole(path, error) from error


def read_header(path: Path) -> tuple[int, dict[str, Any]]:
    """The header of a safetensors file: eight bytes of its length, then JSON.

    Returns:
        Where the tensors begin, in bytes, and the header: type, shape and place of each tensor by name.

    Raises:
        InvalidInputError: it is cut off or something else.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                raise ValueError("the header is cut off")
            header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("its header is no object")
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        end = 8 + length + max(ends, default=0)
        if path.stat().st_size < end:
            raise ValueError(f"{path.stat().st_size} of {end} bytes are there")
    except (OSError, *DAMAGED) as error:
        raise _not_whole(path, error) from error
    return 8 + length, header


def _not_whole(path: Path, error: BaseException) -> InvalidInputError:
    return InvalidInputError(f"{path} is not a whole safetensors file: {error}; copy it again")


def resolution_step(folder: Path) -> int:
    """What a training resolution must be a multiple of: the VAE's downscale times the U-Net's.

    Raises:
        InvalidInputError: a configuration cannot be read, or is of another kind of model.
    """
    return _downscale(folder, "vae") * _downscale(folder, "unet")


def _downscale(folder: Path, component: str) -> int:
    return int(2 ** (len(block_widths(folder, component)) - 1))
