"""``accelerate-config``: accelerate's questionnaire alone, and the file it writes."""

import io
import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.errors import ExitCode, InvalidInputError, RefusedToOverwriteError
from launcher.machine.disk import why_not_writable
from simpletuner_tui.frontends.accessible import COMMANDS, Lines, QuitWalkError, walk
from simpletuner_tui.paths import typed_path
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.file import accelerate_file, file_bytes, read_file
from simpletuner_tui.questions.accelerate.recover import answers_in, deepspeed_answers_in
from simpletuner_tui.saving import saving
from simpletuner_tui.session import Session, probe_machine

NOTHING = "Nothing was written."


def accelerate_config(arguments: Namespace) -> ExitCode:
    """Walks accelerate's questions as lines and writes the file that accelerate would.

    Raises:
        InvalidInputError: the input ends too early, or the file cannot be where it was wanted.
        RefusedToOverwriteError: another file is there, and nobody can be asked.
    """
    path = default_path() if arguments.config_file is None else typed_path(arguments.config_file)
    _refuse_impossible(path, made=arguments.config_file is None)
    reads = sys.stdin or io.StringIO()  # a closed stdin is one that has ended
    lines = Lines(reads, sys.stdout, "nothing was written")
    try:
        session = Session(ACCELERATE, _defaults(lines, arguments.source, path, asks=reads.isatty()))
        lines.say("What accelerate config asks. " + COMMANDS)
        walk(lines, session)
        content = file_bytes(accelerate_file(session.resolved), path.name)
        return _write(lines, path, content, force=arguments.force, asks=reads.isatty())
    except QuitWalkError:
        lines.say(NOTHING)
        return ExitCode.OK


def default_path() -> Path:
    """Where accelerate keeps its file when nobody says otherwise."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    return typed_path(os.environ.get("HF_HOME", str(cache))) / "accelerate/default_config.yaml"


def _refuse_impossible(path: Path, *, made: bool) -> None:
    """Before the first question: after the last one it would cost every answer."""
    if not made:
        saving(path, b"")
    reason = why_not_writable(path.absolute().parent)
    if reason:
        raise InvalidInputError(f"{path} cannot be written: {reason}; choose another with --config_file")


def _defaults(lines: Lines, source: str | None, path: Path, *, asks: bool) -> dict[str, object]:
    """Answers of a file that was named, or of one that is there and that the person wants to start from."""
    if source is not None:
        return _answers(lines, typed_path(source), read_file(typed_path(source)))
    found = [each for each in (path, default_path()) if each.is_file()]
    if not found or not asks:
        return {}
    try:
        content = read_file(found[0])
    except InvalidInputError as error:
        lines.show(f"{error}; the questions start from accelerate's own defaults")
        return {}
    lines.show(f"{found[0]} is there.")
    wanted = lines.hear("Start from its answers? [yes] > ").strip().lower()
    return _answers(lines, found[0], content) if wanted in ("", "y", "yes") else {}


def _answers(lines: Lines, path: Path, content: Mapping[str, Any]) -> dict[str, object]:
    if deepspeed_answers_in(content):
        lines.show(
            f"{path} names an optimizer or a scheduler for DeepSpeed. accelerate does not ask about them, so they will "
            "not be in the new file."
        )
    return dict(answers_in(content, probe_machine()))


def _write(lines: Lines, path: Path, content: bytes, *, force: bool, asks: bool) -> ExitCode:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = saving(path, content)
    if new.changes_nothing:
        lines.show(f"{path} holds exactly this already. {NOTHING}")
        return ExitCode.OK
    if new.before is not None:
        lines.show("\n".join(new.diff()))
        if not (force or asks):
            raise RefusedToOverwriteError(
                f"{path} is there already and differs as shown; --force replaces it and keeps it as {new.backup.name}"
            )
        if not force and not _agreed(lines, f"Replace it, and keep it as {new.backup.name}? [no] > "):
            lines.say(NOTHING)
            return ExitCode.REFUSED_TO_OVERWRITE
    new.write()
    lines.show(f"accelerate configuration saved at {path}")
    return ExitCode.OK


def _agreed(lines: Lines, question: str) -> bool:
    return lines.hear(question).strip().lower() in ("y", "yes")
