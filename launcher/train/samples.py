"""Which pictures are drawn to look at, where they go, and those of the exported pipeline at the end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from launcher.config.training import TrainingSettings
from launcher.data.sources import bucketings
from launcher.train.distributed import World
from launcher.train.export import DTYPES
from launcher.train.report import LOGGER, Report

THUMBNAIL = 128
"""Longest side of a thumbnail."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One picture to draw."""

    prompt: str
    seed: int


def wanted(training: TrainingSettings, captions: Sequence[str]) -> list[Wanted]:
    """The pictures of one drawing.

    Args:
        training: how many, with which prompts.
        captions: of the data set, which are drawn from where there is no prompt.
    """
    validation = training.validation
    count, seed = validation.num_validation_images, validation.validation_seed
    prompts = [prompt for prompt in (validation.validation_prompt, *validation.validation_prompts) if prompt.strip()]
    if prompts:
        return [Wanted(prompt, seed + number) for prompt in prompts for number in range(count)]
    distinct = list(dict.fromkeys(captions))
    return [Wanted(distinct[number * len(distinct) // count % len(distinct)], seed + number) for number in range(count)]


def prompts_to_cache(training: TrainingSettings, captions: Sequence[str]) -> list[str]:
    """The prompts whose embeddings are needed while it trains, the negative one among them."""
    if not training.validation.validation_steps:
        return []
    drawn = [picture.prompt for picture in wanted(training, captions)]
    return [*drawn, training.validation.validation_negative_prompt] if drawn else []


def draw_samples(
    load: Callable[[torch.dtype], StableDiffusionXLPipeline],
    training: TrainingSettings,
    captions: Sequence[str],
    folder: Path,
    step: int,
    world: World,
    report: Report,
) -> None:
    """Draws the pictures with what was exported, one file each and a grid; a failure is only a warning.

    Every rank calls it, and rank 0 draws.

    Args:
        load: gives the pipeline to draw with, in a dtype.
        training: which pictures, how large.
        captions: of the data set.
        folder: where they go.
        step: how many are trained.
        world: the ranks.
        report: gets phase ``samples`` and the event ``pictures``, or a warning.
    """
    some = wanted(training, captions)
    if some and world.is_main:
        _draw_samples(load, training, some, folder, step, world.device, report)
    world.barrier()


def _draw_samples(
    load: Callable[[torch.dtype], StableDiffusionXLPipeline],
    training: TrainingSettings,
    some: Sequence[Wanted],
    folder: Path,
    step: int,
    device: torch.device,
    report: Report,
) -> None:
    validation, side = training.validation, side_of(training)
    try:
        with report.phase("samples") as progress:
            # A CPU computes half precision slower than fp32.
            dtype = DTYPES[training.export.export_dtype] if device.type == "cuda" else torch.float32
            pipeline = load(dtype).to(device)
            pipeline.set_progress_bar_config(disable=True)
            pictures, rows = [], []
            for number, drawn in enumerate(some):
                picture = pipeline(
                    drawn.prompt,
                    negative_prompt=validation.validation_negative_prompt or None,
                    height=side,
                    width=side,
                    num_inference_steps=validation.validation_num_inference_steps,
                    guidance_scale=validation.validation_guidance,
                    generator=torch.Generator().manual_seed(drawn.seed),
                ).images[0]
                rows.append(write_picture(picture, folder, number, drawn))
                pictures.append(picture)
                progress.progress(number + 1, len(some))
            _grid(pictures).save(folder / "grid.png")
        report.event(
            "pictures",
            step=step,
            path=str(folder / "grid.png"),
            prompts=[picture.prompt for picture in some],
            pictures=rows,
        )
    except Exception as error:  # training is done and saved; nothing here may undo that
        LOGGER.exception("samples")
        report.warning(f"the sample pictures could not be drawn: {error}")


def write_picture(picture: Image.Image, folder: Path, number: int, drawn: Wanted) -> dict[str, Any]:
    """Writes a picture and its thumbnail; returns what the event tells of it."""
    thumbnails = folder / "thumbnails"
    thumbnails.mkdir(parents=True, exist_ok=True)
    name = f"sample-{number + 1:02}.png"
    picture.save(folder / name)
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(thumbnails / name)
    paths = {"path": str(folder / name), "thumbnail": str(thumbnails / name)}
    return {**paths, "prompt": drawn.prompt, "seed": drawn.seed}


def side_of(training: TrainingSettings) -> int:
    """Pixels of the pictures' sides: a square, or what the alignment of the buckets leaves of it."""
    wanted_side = training.validation.validation_resolution
    return max(8, wanted_side // 8 * 8) if wanted_side else bucketings(training)[0].bucket(1, 1).height


def _grid(pictures: Sequence[Image.Image]) -> Image.Image:
    """As square as it gets, row by row."""
    columns = next(columns for columns in range(1, len(pictures) + 1) if columns**2 >= len(pictures))
    rows = -(-len(pictures) // columns)
    width, height = pictures[0].size
    grid = Image.new("RGB", (columns * width, rows * height))
    for index, picture in enumerate(pictures):
        grid.paste(picture, (index % columns * width, index // columns * height))
    return grid
