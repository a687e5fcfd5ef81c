"""``convert``: a checkpoint that any engine, ZeRO stage and number of processes continues."""

import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence

from launcher.errors import ExitCode
from launcher.runs.converting import conversion
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path


def convert(arguments: Namespace) -> ExitCode:
    """``convert CHECKPOINT [FOLDER]``: made beside it, or in another folder of checkpoints; the source stays.

    Raises:
        LauncherError: it cannot be converted, or not to there.
    """
    source, folder = typed_path(arguments.checkpoint), arguments.folder and typed_path(arguments.folder)
    wanted = conversion(source, folder)
    tell(f"{wanted.source.path} becomes {wanted.target}; the first stays as it is")
    code = in_torch("convert", [str(source), *([str(folder)] if folder else [])])
    if code is ExitCode.OK:
        tell("Start the run again: it continues from there, with the settings it has now")
    return code


def in_torch(module: str, arguments: Sequence[str]) -> ExitCode:
    """Runs a command of ``launcher.train`` that needs torch, in a process of its own and on the CPU."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", f"launcher.train.{module}", *arguments]
    with subprocess.Popen(command, env=environment) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C reached it too, and it takes away what is not finished
            raise
    return ExitCode(code) if code in set(ExitCode) else ExitCode.RUN_FAILED
