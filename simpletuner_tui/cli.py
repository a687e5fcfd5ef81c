"""The command line: what was asked for, who does it, and which exit code it ends with."""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType

from launcher.errors import ExitCode, LauncherError
from simpletuner_tui.arguments import command_of, parse
from simpletuner_tui.messages import tell


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup wants to go on
        signal.signal(signal.SIGHUP, _hang_up)
    try:
        code = _run(argv)
    except BrokenPipeError:
        code = int(ExitCode.OK)  # whoever read the output has seen enough
    return _flush(code)


def _run(argv: Sequence[str] | None) -> int:
    try:
        arguments = parse(argv)
    except SystemExit as explained:  # usage, help or version
        return explained.code if isinstance(explained.code, int) else int(ExitCode.USAGE)
    try:
        return int(_dispatch(arguments))
    except LauncherError as error:
        tell("\n".join(f"error: {line}" if not line.startswith(" ") else line for line in str(error).splitlines()))
        return int(error.exit_code)
    except KeyboardInterrupt:
        tell("\ncancelled" if arguments.command else "\ncancelled; nothing was started")
        return int(ExitCode.CANCELLED)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _report_defect(error)


def _flush(code: int) -> int:
    """Writes what output is left while a failure can still be told; Python at exit would end with a code of its own."""
    if sys.stdout is None:  # closed
        return code
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if code == ExitCode.OK and not isinstance(error, BrokenPipeError):
            tell(f"error: the output cannot be written: {error.strerror}")
            return int(ExitCode.RUN_FAILED)
    return code


def _dispatch(arguments: argparse.Namespace) -> ExitCode:
    if arguments.command is not None:
        result: ExitCode = arguments.command(arguments)
        return result
    if arguments.replay is not None:
        return command_of("replay.replay")(arguments)
    return command_of("front_ends.wizard")(arguments)


def _hang_up(_: int, __: FrameType | None) -> None:
    # The terminal is gone, so there is nobody to tell; a run that was started has a session of its own.
    os._exit(ExitCode.HANGUP)


def _report_defect(error: Exception) -> int:
    from launcher.runs.index import index_path  # noqa: PLC0415 - rare, and nobody should wait for it at a start

    log = index_path().parent / "error.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            traceback.print_exc(file=file)
        where = f"; {log} has the details"
    except OSError:
        where = ""
    tell(f"error: this should not have happened ({type(error).__name__}: {error}){where}")
    return int(ExitCode.RUN_FAILED)
