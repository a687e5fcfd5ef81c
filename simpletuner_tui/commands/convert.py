"""``convert``: a checkpoint that any engine, ZeRO stage and number of processes continues."""

from argparse import Namespace

from launcher.errors import ExitCode
from launcher.runs.converting import conversion
from simpletuner_tui.commands.in_torch import in_torch
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path


def convert(arguments: Namespace) -> ExitCode:
    """``convert CHECKPOINT [FOLDER]``: made beside it, or in another folder of checkpoints; the source stays.

    Raises:
        LauncherError: it cannot be converted, or not to there.
    """
    source, folder = typed_path(arguments.checkpoint), arguments.folder and typed_path(arguments.folder)
    wanted = conversion(source, folder, content=False)
    tell(f"{wanted.source.path} becomes {wanted.target}; the first stays as it is")
    code = in_torch("convert", [str(source), *([str(folder)] if folder else [])])
    if code is ExitCode.OK:
        tell("Start the run again: it continues from there, with the settings it has now")
    return code
