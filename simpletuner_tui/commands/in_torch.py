"""Commands of the launcher that need torch, which the interface never loads."""

import os
import subprocess
import sys
from collections.abc import Sequence

from launcher.errors import ExitCode


def in_torch(module: str, arguments: Sequence[str]) -> ExitCode:
    """Runs a command of ``launcher.train`` in a process of its own and on the CPU; its output is this command's."""
    # Without a word of the picture processors that transformers misses: nothing here looks at pictures.
    quiet = {"TRANSFORMERS_VERBOSITY": "error"}
    environment = {**quiet, **os.environ, "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    command = [sys.executable, "-m", f"launcher.train.{module}", *arguments]
    with subprocess.Popen(command, env=environment) as process:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()  # Ctrl-C reached it too, and it takes away what is not finished
            raise
    return ExitCode(code) if code in set(ExitCode) else ExitCode.RUN_FAILED
