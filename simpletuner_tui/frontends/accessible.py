"""The questions as numbered lines on stdin and stdout: for screen readers, dumb terminals and pipes."""

import shutil
import textwrap
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TextIO

from launcher.errors import InvalidInputError
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question, Typed
from simpletuner_tui.session import Session
from simpletuner_tui.starting import WHERE, Start

COMMANDS = "Enter keeps what is in brackets. back, rest (keep all that is left), ? (help) and quit are understood."


class QuitWalkError(Exception):
    """The person wants to leave without a run."""


class Lines:
    """Lines out, lines in."""

    def __init__(self, reads: TextIO, writes: TextIO, undone: str = "nothing was started") -> None:
        """Lines from and to a terminal or a pipe.

        Args:
            reads: what a person types.
            writes: what they are told.
            undone: what is said to be undone when the input ends too early.
        """
        if isinstance(reads, TextIOWrapper) and reads.errors != "surrogateescape":
            reads.reconfigure(errors="surrogateescape")  # what is no text is refused as an answer, not as a line
        self.reads, self.writes, self.undone = reads, writes, undone
        self.from_person = reads.isatty()
        """Whether there is somebody to be asked; a pipe only holds answers."""
        self._width = min(100, shutil.get_terminal_size((80, 24)).columns)
        self._heard = False

    def say(self, text: str = "", indent: str = "") -> None:
        """A paragraph, wrapped."""
        wrapped = textwrap.wrap(text, self._width, initial_indent=indent, subsequent_indent=indent) or [""]
        self.show("\n".join(wrapped))

    def show(self, text: str) -> None:
        """A text as it is, such as a diff or a path."""
        self._write(f"{text}\n")

    def hear(self, prompt: str, question: str = "") -> str:
        """One line that a person types.

        Args:
            prompt: what stands before it.
            question: id of what it answers.

        Raises:
            InvalidInputError: the input is at its end.
            QuitWalkError: they type ``quit``.
        """
        self._write(prompt)
        self.writes.flush()
        line = self.reads.readline()
        if not line:
            self._write("\n")
            raise InvalidInputError(self._end_of_input(question))
        self._heard = True
        if not self.from_person:
            self._write(line)  # a terminal shows what is typed; a pipe does not
        text = line.rstrip("\r\n")
        if text.strip().lower() == "quit":
            raise QuitWalkError
        return text

    def _write(self, text: str) -> None:
        # What was typed may hold bytes that are no text, and what is asked characters that the terminal has not.
        encoding = self.writes.encoding or "utf-8"
        self.writes.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def _end_of_input(self, question: str) -> str:
        unanswered = f": {question} had no answer" if question else ""
        if self._heard:
            return f"the input ended before the last question was answered; {self.undone}{unanswered}"
        return (
            "there is no input to read answers from; use `--replay answers.json` without a terminal, or "
            f"`--accessible` with one answer a line on stdin{unanswered}"
        )


def begin(lines: Lines, session: Session, offered: Sequence[Start]) -> bool:
    """Asks what to start from, where there is a choice.

    Args:
        lines: where it is asked.
        session: is put there.
        offered: the ways there are.

    Returns:
        Whether the answers it begins with stand in no file.

    Raises:
        QuitWalkError: the person leaves.
        InvalidInputError: the input ends.
    """
    while offered:
        lines.say(WHERE)
        for number, start in enumerate(offered, start=1):
            lines.say(f"{number}. {start.title}: {start.details}", indent="    ")
        rows = {str(number): start for number, start in enumerate(offered, start=1)} | {"": offered[0]}
        while (typed := lines.hear("[1] > ").strip()) not in rows:
            lines.say(f"That does not do: type a number from 1 to {len(offered)}.", indent="    ")
        start = rows[typed]
        for remark in start.begin(session):
            lines.say(remark)
        if start.further is None:
            return start.unsaved
        offered = start.further()
    return False


def walk(lines: Lines, session: Session, drafts: Drafts | None = None) -> None:
    """Asks from the session's place to the end of the registry.

    Args:
        lines: where it is asked.
        session: what is asked.
        drafts: where answers are kept at every step.

    Raises:
        QuitWalkError: the person leaves.
        InvalidInputError: the input ends, or accelerate refuses what was chosen and nobody goes back.
    """
    section = ""
    while (question := session.current) is not None:
        if drafts is not None:
            drafts.keep(session.kept_answers, question.id)
        if question.section != section:
            section = question.section
            lines.say()
            lines.say(section)
            lines.say("-" * len(section))
        if question.kind is Kind.NOTE:
            lines.say(question.text_in(session.resolved.context))
            session.next()
        elif question.kind is Kind.STOP:
            _stop(lines, session, question)
        else:
            ask(lines, session)
    if drafts is not None:
        drafts.keep(session.kept_answers, "")


def _stop(lines: Lines, session: Session, question: Question) -> None:
    lines.say(question.text_in(session.resolved.context))
    if question.help:
        lines.say(question.help[0].upper() + question.help[1:] + ".")
    while lines.hear("It does not go on from here; back or quit: ", question.id).strip().lower() != "back":
        pass
    session.back()


def ask(lines: Lines, session: Session) -> None:
    """Asks the current question until it is answered or left.

    Raises:
        QuitWalkError: the person leaves.
        InvalidInputError: the input ends.
    """
    question, context = session.current, session.resolved.context
    assert question is not None
    number, of = session.place
    lines.say(f"{number}/{of}  {question.text_in(context).strip()}")
    numbered = question.kind is Kind.MENU and question.numbered_in(context)
    for row, choice in enumerate(session.choices(), start=1):
        reason = f" ({choice.unavailable})" if choice.unavailable else ""
        if reason or question.kind is Kind.MENU:  # that there is a yes and a no needs no saying
            lines.say(f"{f'{row}. ' if numbered else ''}{choice.label.strip()}{reason}", indent="    ")
    while session.current is question:
        typed = lines.hear(_prompt(session), question.id)
        command = typed.strip().lower()
        if command == "?":
            lines.say(question.help or "There is no more to say about this one.", indent="    ")
        elif command == "back":
            if not session.back():
                lines.say("This is the first question.", indent="    ")
        elif command == "rest" and question.id not in session.resolved.faults:
            session.skip_to_open_question()
        else:
            _answer(lines, session, question, typed)


def _answer(lines: Lines, session: Session, question: Question, typed: str) -> None:
    try:
        if typed.strip() in ("", "rest"):
            session.accept_default()
        else:
            session.answer(_repeated(lines, question, typed) if question.kind is Kind.REPEAT else Typed(typed))
    except ValueError as error:
        lines.say(f"That does not do: {error}.", indent="    ")


def _repeated(lines: Lines, question: Question, first: str) -> list[str]:
    texts = [first]
    while lines.hear(f"{question.more.strip()} ", question.id).strip().lower() in ("yes", "y"):
        texts.append(lines.hear("> ", question.id))
    return texts


def _prompt(session: Session) -> str:
    default, question = session.default_text(), session.current
    if default is None or question is None:
        return "> "
    source = session.source_of(question)
    return f"[{default or 'none'}{f', from {source}' if source else ''}] > "
