"""What is left at the end: a diffusers pipeline with the trained U-Net."""

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError

from launcher.config.training import ExportSettings
from launcher.errors import RunFailedError
from launcher.train.distributed import World
from launcher.train.engine import Engine
from launcher.train.models import ModelSource, first_line, replacing
from launcher.train.report import Report

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
        state = _weights(
            engine, settings.export_dtype, world, lambda count: progress.progress(count, model.unet_tensors)
        )
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


def write_unet(engine: Engine, folder: Path, *, model: ModelSource, dtype: str, world: World) -> None:
    """Writes the U-Net as ``folder/unet``, from the fp32 master weights; every rank calls it."""
    state = _weights(engine, dtype, world, lambda _: None)
    if world.is_main:
        model.write_unet(state, folder / "unet")


def _weights(engine: Engine, dtype: str, world: World, told: Callable[[int], None]) -> dict[str, torch.Tensor]:
    """The masters in another dtype on rank 0's CPU; nothing on the others, which must go through all of them too."""
    state: dict[str, torch.Tensor] = {}
    for count, (name, weights) in enumerate(engine.master_weights(), start=1):
        if world.is_main:
            state[name] = weights.to(dtype=DTYPES[dtype], device="cpu", copy=True).contiguous()
        told(count)
    return state
