"""``export``: a checkpoint as other programs load it."""

import json
from argparse import Namespace
from pathlib import Path

from launcher.errors import CannotRunHereError, ExitCode, InvalidInputError, RefusedToOverwriteError
from launcher.machine.disk import why_not_writable
from launcher.runs.checkpoints import checkpoint_at
from simpletuner_tui.commands.in_torch import in_torch
from simpletuner_tui.paths import is_hub_id, typed_path


def export(arguments: Namespace) -> ExitCode:
    """``export CHECKPOINT OUT``: a diffusers pipeline, its U-Net alone, or one file.

    Raises:
        LauncherError: the checkpoint is not whole, or OUT is there already or cannot be written.
    """
    out = typed_path(arguments.out).absolute()
    checkpoint_at(typed_path(arguments.checkpoint), content=False)
    if arguments.single_file and out.suffix != ".safetensors":
        raise InvalidInputError(f"other tools know one file by its suffix: call it {out.name}.safetensors")
    if out.exists():
        raise RefusedToOverwriteError(f"{out} is there already; give another place")
    if reason := why_not_writable(out.parent):
        raise CannotRunHereError(f"{out} cannot be written: {reason}; give another place")
    model = arguments.model
    if model is not None and not is_hub_id(model, Path.cwd()):
        model = str(typed_path(model).absolute())
    wanted = {
        "checkpoint": str(typed_path(arguments.checkpoint).absolute()),
        "out": str(out),
        "form": "single-file" if arguments.single_file else "unet" if arguments.unet else "pipeline",
        "dtype": arguments.dtype,
        "model": model,
        "ema": arguments.ema,
    }
    return in_torch("exporting", [json.dumps(wanted)])
