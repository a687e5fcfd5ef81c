"""A diffusers folder that is all header: tiny tensors, true configurations, no torch."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

UNET = {"a.weight": [4, 3, 3, 3], "a.bias": [4], "b.weight": [8, 4]}
"""144 parameters in three tensors; the largest has 108."""


def write_header(path: Path, header: object, size: int = 0) -> None:
    """A safetensors file of this header and so many bytes of tensors."""
    content = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + bytes(size))


def write_safetensors(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """A whole safetensors file of zeros in fp32."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * _product(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    write_header(path, header, end)


def _product(shape: Sequence[int]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def write_model(folder: Path, *, unet_widths: Sequence[int] = (32, 64), vae_widths: Sequence[int] = (8, 8, 8)) -> Path:
    """A pipeline folder with every component that fine-tuning SDXL needs; a multiple of 8 by default."""
    configs = {
        "unet": {"block_out_channels": list(unet_widths)},
        "vae": {"block_out_channels": list(vae_widths)},
        "text_encoder": {},
        "text_encoder_2": {},
    }
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionXLPipeline"}))
    for name, config in configs.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
        shapes = UNET if name == "unet" else {"w": [2, 2]}
        write_safetensors(folder / name / "model.safetensors", shapes)
    for name in ("tokenizer", "tokenizer_2"):
        (folder / name).mkdir()
        (folder / name / "vocab.json").write_text("{}")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text("{}")
    return folder


def write_pictures(folder: Path, count: int = 4, side: int = 64) -> Path:
    """So many pictures with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (side, side), (40 * number % 256, 90, 160)).save(folder / f"{number:02}.png")
        (folder / f"{number:02}.txt").write_text(f"picture {number}")
    return folder
