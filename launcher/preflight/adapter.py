"""What a LoRA is put on and starts from, before the model is loaded."""

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from launcher.config.setting import Level
from launcher.config.training import AdapterSettings
from launcher.config.training.adapter import PRESETS, is_target
from launcher.errors import InvalidInputError
from launcher.model_files import is_file, tensor_shapes
from launcher.plan import Plan
from launcher.preflight.finding import Finding

_DOWN = re.compile(r"(?:unet\.|lora_unet_)(.+)\.(?:lora_A|lora_down|lora\.down)\.weight")
"""The first matrix of a layer, as diffusers and kohya's tools name it."""
_OF_TEXT = ("text_encoder", "lora_te")
_ORIGINAL = ("input_blocks_", "middle_block_", "output_blocks_")
"""How layers are called in SDXL's original code; which of diffusers' they are, diffusers says when it loads them."""


def adapter(plan: Plan) -> Iterator[Finding]:
    """Layers that are not there, and a LoRA to start from that is another than this one."""
    settings = plan.settings.training.adapter
    if not settings.is_lora:
        return
    field, layers = "training.lora_target_modules", plan.model.layers
    if not settings.targets:
        yield Finding(field, f"names no layer; give groups ({', '.join(PRESETS)}) or ends of layer names")
    for target in settings.targets:
        if not any(is_target(name, (target,)) for name in layers):
            ends = {end for name in layers for end in (name, name.rpartition(".")[2])}
            near = difflib.get_close_matches(target, [*PRESETS, *sorted(ends)], 1)
            meant = f"; did you mean {near[0]}?" if near else f"; groups are {', '.join(PRESETS)}"
            yield Finding(field, f"no linear layer or convolution of this U-Net ends in {target!r}{meant}")
    if settings.init_lora:
        yield from _initial(settings, layers)


def _initial(settings: AdapterSettings, layers: Mapping[str, tuple[int, ...]]) -> Iterator[Finding]:
    field, path = "training.init_lora", Path(settings.init_lora)
    if path.suffix != ".safetensors" or not is_file(path):
        yield Finding(
            field, f"{path} is no .safetensors file; give one in diffusers' or kohya's form, or leave it empty"
        )
        return
    try:
        shapes = tensor_shapes(path)
    except InvalidInputError as error:
        yield Finding(field, str(error))
        return
    first = {match[1]: shape for name, shape in shapes.items() if (match := _DOWN.fullmatch(name))}
    if not first:
        yield Finding(field, f"{path} holds no LoRA of a U-Net in diffusers' or kohya's form")
        return
    ranks = sorted({shape[0] for shape in first.values() if shape})
    if ranks != [settings.lora_rank]:
        found = ", ".join(map(str, ranks))
        yield Finding("training.lora_rank", f"{path} has rank {found}, not {settings.lora_rank}; give its own")
    there = {name.replace(".", "_") for name in first}
    here = {name.replace(".", "_") for name in layers if is_target(name, settings.targets)}
    if there != here and not any(name.startswith(_ORIGINAL) for name in there):
        yield Finding(
            "training.lora_target_modules",
            f"{path} has {len(there)} layers, {len(there & here)} of them among the {len(here)} that are asked for; "
            "ask for the layers that it has",
        )
    if any(name.startswith(_OF_TEXT) for name in shapes):
        message = f"{path} has a part for the text encoders, which are not trained here; it is left out"
        yield Finding(field, message, level=Level.WARNING)
