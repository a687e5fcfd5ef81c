"""``python -m launcher.train.exporting WANTED``: a checkpoint of any engine as other programs load it; on a CPU.

WANTED is a JSON object: ``checkpoint``, ``out``, ``form`` (``pipeline``, ``unet``, ``single-file``), ``dtype`` and
``model``, which has the other components, None takes the one that was trained; ``ema`` takes the moving average.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.config.training import AdapterSettings, ModelSettings, TrainingSettings
from launcher.errors import CannotRunHereError, InvalidInputError
from launcher.imports import without_collecting
from launcher.machine.disk import free_bytes
from launcher.model_files import component_files, weight_files
from launcher.runs.checkpoints import Checkpoint, checkpoint_at
from launcher.runs.directory import RunDirectory

with without_collecting():
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file

    from launcher.train.alone import Progress, run_alone
    from launcher.train.distributed import World
    from launcher.train.export import DTYPES
    from launcher.train.lora import FOLDER as LORA
    from launcher.train.lora import layer_of, write_adapter
    from launcher.train.models import ModelSource, first_line, resolve_model
    from launcher.train.report import Report
    from launcher.train.single_file import single_file
    from launcher.train.universal.form import AVERAGE, MASTER
    from launcher.train.universal.sources import open_source

GIB = 2**30
OTHERS = ("vae", "text_encoder", "text_encoder_2")
"""Components with weights beside the U-Net."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is exported, and as what."""

    checkpoint: Path
    out: Path
    form: str
    dtype: str
    model: str | None = None
    ema: bool = False


def export(wanted: Wanted, progress: Progress) -> Path:
    """Writes a checkpoint's masters, or the weights it holds alone, in another form; whole or not at all.

    Returns:
        The folder or file.

    Raises:
        LauncherError: the checkpoint or the model cannot be read, or the result not be written.
    """
    checkpoint = checkpoint_at(wanted.checkpoint, content=True)
    if checkpoint.facts.get("model_type") == "lora":
        return _export_lora(checkpoint, wanted, progress)
    model = _model(checkpoint, wanted.model)
    state = {}
    for count, (name, weights) in enumerate(_weights(checkpoint, ema=wanted.ema), start=1):
        state[name] = weights.to(DTYPES[wanted.dtype], copy=True).contiguous()
        progress(count, model.unet_tensors)
    _require_same(model, state, checkpoint)
    _require_room(wanted, model, state)
    try:
        with _whole(wanted.out) as unfinished:
            if wanted.form == "unet":
                model.write_unet(state, unfinished)
            elif wanted.form == "single-file":
                metadata = {"format": "pt", "modelspec.architecture": "stable-diffusion-xl-v1-base"}
                save_file(single_file(state, model.folder, model.vae_folder), unfinished, metadata=metadata)
            else:
                model.write_pipeline(state, unfinished)
    except (OSError, SafetensorError) as error:
        free = free_bytes(wanted.out) / GIB
        raise CannotRunHereError(
            f"{wanted.out} could not be written ({free:.1f} GiB free there): {first_line(error)}; the checkpoint is "
            "untouched"
        ) from error
    return wanted.out


def _export_lora(checkpoint: Checkpoint, wanted: Wanted, progress: Progress) -> Path:
    """Diffusers' file and kohya's, in a folder."""
    if wanted.form != "pipeline":
        raise InvalidInputError(
            f"{checkpoint.path} is a LoRA: OUT becomes a folder with a file for diffusers and one for kohya's tools; "
            "leave --unet and --single-file out"
        )
    if not checkpoint.resumable:
        raise InvalidInputError(f"{checkpoint.path / LORA} holds the LoRA's files already")
    facts = checkpoint.facts
    adapter = AdapterSettings(
        "lora", facts["lora_rank"], facts["lora_alpha"], lora_target_modules=facts["lora_target_modules"]
    )
    held = dict(_weights(checkpoint, ema=wanted.ema))
    state = {layer_of(name): weights.to(DTYPES[wanted.dtype], copy=True) for name, weights in held.items()}
    progress(len(state), len(held))
    try:
        with _whole(wanted.out) as unfinished:
            write_adapter(state, adapter, unfinished)
    except (OSError, SafetensorError) as error:
        raise CannotRunHereError(f"{wanted.out} could not be written: {first_line(error)}") from error
    return wanted.out


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A place beside ``out`` to write in, which takes its name when all went well and is gone when not."""
    unfinished = out.with_name(f"{out.name}.unfinished")
    _remove(unfinished)
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield unfinished
        unfinished.rename(out)
    finally:
        _remove(unfinished)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _weights(checkpoint: Checkpoint, *, ema: bool) -> Iterator[tuple[str, torch.Tensor]]:
    kind = AVERAGE if ema else MASTER
    if checkpoint.resumable:
        source = open_source(checkpoint)
        if ema and not source.has_average:
            raise InvalidInputError(f"{checkpoint.path} holds no moving average of the weights; leave --ema out")
        for name, tensors in source.parameters((kind,)):
            yield name, tensors[kind]
        return
    if ema:
        raise InvalidInputError(f"{checkpoint.path} holds weights alone; leave --ema out")
    for path in weight_files(checkpoint.path / "unet"):
        yield from load_file(path).items()


def _model(checkpoint: Checkpoint, name: str | None) -> ModelSource:
    """The model whose U-Net was trained, as its run knew it; or another that is named."""
    output = RunDirectory(checkpoint.path.parent.parent)
    training = output.training() if output.training_json.exists() else TrainingSettings()
    trained = str(checkpoint.facts["model"])
    settings = training.model
    if name is not None or settings.pretrained_model_name_or_path != trained:
        settings = ModelSettings(pretrained_model_name_or_path=name or trained)
    cache = training.data.cache_dir or str(output.path.parent / "cache")
    training = replace(training, model=settings, data=replace(training.data, cache_dir=cache))
    try:
        return resolve_model(training, World(rank=0, world_size=1, device=torch.device("cpu")), Report())
    except InvalidInputError as error:
        raise InvalidInputError(f"{error}; name the model that was trained with --model") from error


def _require_same(model: ModelSource, state: dict[str, torch.Tensor], checkpoint: Checkpoint) -> None:
    shapes = model.unet_shapes()
    found = {name: tuple(weights.shape) for name, weights in state.items()}
    if differing := {name for name in shapes.keys() | found.keys() if shapes.get(name) != found.get(name)}:
        raise InvalidInputError(
            f"{checkpoint.path} is not of the U-Net of {model.folder}: {min(differing)} differs; name the model that "
            "was trained with --model"
        )


def _require_room(wanted: Wanted, model: ModelSource, state: dict[str, torch.Tensor]) -> None:
    needed = sum(weights.nbytes for weights in state.values())
    if wanted.form != "unet":
        folders = [model.vae_folder if name == "vae" else model.folder / name for name in OTHERS]
        needed += sum(file.stat().st_size for folder in folders for file in component_files(folder))
    if needed > (free := free_bytes(wanted.out)):
        raise CannotRunHereError(
            f"{wanted.out} needs {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free on its disk; make room or "
            "give another place"
        )


def main() -> int:
    """Exports what the command line says; prints where it is."""
    given = json.loads(sys.argv[1])
    wanted = Wanted(**{**given, "checkpoint": Path(given["checkpoint"]), "out": Path(given["out"])})
    return run_alone("export", lambda progress: str(export(wanted, progress)))


if __name__ == "__main__":
    sys.exit(main())
