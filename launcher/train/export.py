"""What is left at the end: a diffusers pipeline with the trained U-Net, and pictures drawn with it."""

import gc
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from safetensors import SafetensorError

from launcher.config.training import ExportSettings, TrainingSettings
from launcher.errors import RunFailedError
from launcher.train.distributed import World
from launcher.train.engine import Engine
from launcher.train.models import ModelSource, first_line, replacing
from launcher.train.report import LOGGER, Report
from launcher.train.seeds import seeded

GIB = 2**30
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def export_pipeline(
    engine: Engine, model: ModelSource, settings: ExportSettings, folder: Path, world: World, report: Report
) -> Path:
    """Writes a StableDiffusionXLPipeline folder from the fp32 master weights; every rank calls it.

    An earlier export in ``folder`` is replaced only when the new one is whole.

    Returns:
        ``folder``.

    Raises:
        RunFailedError: it cannot be written.
    """
    with report.phase("export") as progress:
        state: dict[str, torch.Tensor] = {}
        dtype = DTYPES[settings.export_dtype]
        for count, (name, weights) in enumerate(engine.master_weights(), start=1):
            if world.is_main:
                state[name] = weights.to(dtype=dtype, device="cpu", copy=True).contiguous()
            progress.progress(count, model.unet_tensors)
        if world.is_main:
            try:
                with replacing(folder) as unfinished:
                    model.write_pipeline(state, unfinished)
            except (OSError, SafetensorError) as error:
                free = shutil.disk_usage(folder.parent).free
                raise RunFailedError(
                    f"the pipeline could not be exported to {folder} ({free / GIB:.1f} GiB free there): "
                    f"{first_line(error)}; the checkpoints are whole. Make room and start the run again: it exports "
                    "without training anew"
                ) from error
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            report.event("export", path=str(folder), bytes=size)
        del state
        gc.collect()
        world.barrier()
    return folder


def draw_samples(
    load: Callable[[torch.dtype], StableDiffusionXLPipeline],
    training: TrainingSettings,
    captions: Sequence[str],
    folder: Path,
    device: torch.device,
    report: Report,
) -> None:
    """Draws pictures with the pipeline that ``load`` gives, one file each and a grid; a failure is only a warning."""
    export = training.export
    count = export.num_validation_images
    if count == 0:
        return
    try:
        with report.phase("samples") as progress:
            prompts = _prompts(export.validation_prompt, captions, count)
            # A CPU computes half precision slower than fp32.
            dtype = DTYPES[export.export_dtype] if device.type == "cuda" else torch.float32
            pipeline = load(dtype).to(device)
            pipeline.set_progress_bar_config(disable=True)
            folder.mkdir(parents=True, exist_ok=True)
            pictures = []
            for index, prompt in enumerate(prompts):
                picture = pipeline(
                    prompt,
                    height=training.data.resolution,
                    width=training.data.resolution,
                    num_inference_steps=export.validation_num_inference_steps,
                    guidance_scale=export.validation_guidance,
                    generator=seeded("samples", training.optimization.seed, index),
                ).images[0]
                picture.save(folder / f"sample-{index + 1}.png")
                pictures.append(picture)
                progress.progress(index + 1, count)
            _grid(pictures).save(folder / "grid.png")
        report.event("pictures", path=str(folder / "grid.png"), prompts=prompts)
    except Exception as error:  # training is done and saved; nothing here may undo that
        LOGGER.exception("samples")
        report.warning(f"the sample pictures could not be drawn: {error}")


def _prompts(prompt: str, captions: Sequence[str], count: int) -> list[str]:
    if prompt:
        return [prompt] * count
    distinct = list(dict.fromkeys(captions))
    return [distinct[index * len(distinct) // count % len(distinct)] for index in range(count)]


def _grid(pictures: Sequence[Image.Image]) -> Image.Image:
    """As square as it gets, row by row."""
    columns = next(columns for columns in range(1, len(pictures) + 1) if columns**2 >= len(pictures))
    rows = -(-len(pictures) // columns)
    width, height = pictures[0].size
    grid = Image.new("RGB", (columns * width, rows * height))
    for index, picture in enumerate(pictures):
        grid.paste(picture, (index % columns * width, index // columns * height))
    return grid
