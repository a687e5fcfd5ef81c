"""``accelerate-config``: accelerate's questionnaire alone, and the file it writes."""

import io
import sys
from argparse import Namespace
from pathlib import Path

from launcher.errors import ExitCode, InvalidInputError, RefusedToOverwriteError
from launcher.machine.disk import why_not_writable
from simpletuner_tui.commands.asking import ask_questions
from simpletuner_tui.commands.front_ends import FrontEnd, front_end_for, full_screen
from simpletuner_tui.documents import Document, accelerate_document
from simpletuner_tui.frontends.accessible import Lines, QuitWalkError
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path
from simpletuner_tui.saving import saving
from simpletuner_tui.session import Session
from simpletuner_tui.starting import of_file

NOTHING = "Nothing was written."


def accelerate_config(arguments: Namespace) -> ExitCode:
    """Walks accelerate's questions and writes the file that accelerate would.

    Raises:
        InvalidInputError: the input ends too early, or the file cannot be where it was wanted.
        RefusedToOverwriteError: another file is there, and nobody can be asked.
    """
    wanted = None if arguments.config_file is None else typed_path(arguments.config_file)
    document = accelerate_document(wanted)
    _refuse_impossible(document.path, made=wanted is None)
    session = Session(document.registry, {})
    if arguments.source is not None:
        for remark in of_file(typed_path(arguments.source), document.registry).begin(session):
            tell(f"note: {remark}")
    front_end = front_end_for(arguments)
    if front_end is FrontEnd.FULL_SCREEN:
        return full_screen(document, session)
    return _ask(document, session, prompts=front_end is FrontEnd.PROMPTS, force=arguments.force)


def _refuse_impossible(path: Path, *, made: bool) -> None:
    """Before the first question: after the last one it would cost every answer."""
    if not made:
        saving(path, b"")
    reason = why_not_writable(path.absolute().parent)
    if reason:
        raise InvalidInputError(f"{path} cannot be written: {reason}; choose another with --config_file")


def _ask(document: Document, session: Session, *, prompts: bool, force: bool) -> ExitCode:
    # A closed stdin is one that has ended.
    lines = Lines(sys.stdin or io.StringIO(), sys.stdout, "nothing was written")
    try:
        drafts = ask_questions(document, session, lines, "What accelerate config asks.", prompts=prompts)
        written = _write(lines, document, session, force=force)
    except QuitWalkError:
        lines.say(NOTHING)
        return ExitCode.OK
    if drafts is not None and written is ExitCode.OK:
        drafts.drop(session.kept_answers)
    return written


def _write(lines: Lines, document: Document, session: Session, *, force: bool) -> ExitCode:
    new = document.saving(session.resolved, document.path)
    if new.changes_nothing:
        lines.show(f"{new.path} holds exactly this already. {NOTHING}")
        return ExitCode.OK
    if new.before is not None:
        lines.show("\n".join(new.diff()))
        if not (force or lines.from_person):
            raise RefusedToOverwriteError(
                f"{new.path} is there already and differs as shown; --force replaces it, and keeps it as "
                f"{new.backup.name}"
            )
        if not force and not _agreed(lines, f"Replace it, and keep it as {new.backup.name}? [no] > "):
            lines.say(NOTHING)
            return ExitCode.REFUSED_TO_OVERWRITE
    new.write()
    lines.show(f"accelerate configuration saved at {new.path}")
    return ExitCode.OK


def _agreed(lines: Lines, question: str) -> bool:
    return lines.hear(question).strip().lower() in ("y", "yes")
