"""The questions as questionary prompts: one after another in the terminal's own scroll, with a way back."""

from collections.abc import Sequence

import questionary
from prompt_toolkit.document import Document
from prompt_toolkit.validation import ValidationError, Validator

from simpletuner_tui.drafts import Drafts
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question, Typed
from simpletuner_tui.session import Session
from simpletuner_tui.starting import WHERE, Start
from simpletuner_tui.text import printable

BACK, HELP = "back", "?"
"""Typed, or chosen as the last rows of a menu."""


def begin(session: Session, offered: Sequence[Start]) -> bool:
    """Asks what to start from, where there is a choice.

    Args:
        session: is put there.
        offered: the ways there are.

    Returns:
        Whether the answers it begins with stand in no file.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        EOFError: Ctrl-D.
    """
    while offered:
        rows = [questionary.Choice(f"{start.title}  ({start.details})", value=start) for start in offered]
        start: Start = questionary.select(WHERE, choices=rows, instruction=" ").unsafe_ask()
        for remark in start.begin(session):
            questionary.print(remark)
        if start.further is None:
            return start.unsaved
        offered = start.further()
    return False


def walk(session: Session, drafts: Drafts | None = None) -> None:
    """Asks from the session's place to the end of the registry.

    Args:
        session: what is asked.
        drafts: where answers are kept at every step.

    Raises:
        KeyboardInterrupt: Ctrl-C; questionary's own ``ask`` would turn it into an answer of None.
        EOFError: Ctrl-D.
    """
    section = ""
    while (question := session.current) is not None:
        if drafts is not None:
            drafts.keep(session.kept_answers, question.id)
        if question.section != section:
            section = question.section
            questionary.print(f"\n{section}", style="bold")
        if question.kind is Kind.NOTE:
            questionary.print(question.text_in(session.resolved.context))
            session.next()
        elif question.kind is Kind.STOP:
            questionary.print(question.text_in(session.resolved.context), style="bold")
            questionary.press_any_key_to_continue("Any key goes back to the question before.").unsafe_ask()
            session.back()
        else:
            _ask(session, question)
    if drafts is not None:
        drafts.keep(session.kept_answers, "")


def _ask(session: Session, question: Question) -> None:
    given = _GIVEN.get(question.kind, _text)(session, question)
    if given == BACK:
        if not session.back():
            questionary.print("This is the first question.")
    elif given == HELP:
        questionary.print(question.help or "There is no more to say about this one.")
    else:
        try:
            if given is None:
                session.accept_default()
            else:
                session.answer(given)
        except ValueError as error:
            questionary.print(f"That does not do: {printable(str(error))}.")


def _title(session: Session, question: Question) -> str:
    number, of = session.place
    return f"{number}/{of} {question.text_in(session.resolved.context).strip()}"


def _menu(session: Session, question: Question) -> object | None:
    value = session.resolved.values.get(question.id)
    listed = [
        questionary.Choice(f"{row.label.strip()}{f'  ({row.unavailable})' if row.unavailable else ''}", value=row)
        for row in session.choices()
    ]
    chosen = questionary.select(
        _title(session, question),
        choices=[
            *listed,
            questionary.Separator(),
            questionary.Choice("back", value=BACK),
            questionary.Choice("help", value=HELP),
        ],
        default=next((choice for choice in listed if choice.value.value == value), None),
        instruction=" ",
    ).unsafe_ask()
    given: object = chosen if chosen in (BACK, HELP) else chosen.value
    return given


def _text(session: Session, question: Question) -> object | None:
    default = session.default_text()
    ask = (
        questionary.password
        if question.secret
        else questionary.path
        if question.kind is Kind.PATH
        else questionary.text
    )
    source = session.source_of(question)
    origin = f", from {source}" if source else ""
    shown = "" if default is None or question.secret else f" [{default or 'none'}{origin}]"
    typed = ask(f"{_title(session, question)}{shown}", validate=_Checked(session, question)).unsafe_ask()
    if typed.strip() in (BACK, HELP):
        return str(typed.strip())
    return Typed(typed) if typed else None


def _repeat(session: Session, question: Question) -> object | None:
    items: list[str] = []
    while True:
        given = _text(session, question)
        if given in (BACK, HELP) or (given is None and not items):
            return given
        if given is not None:
            items.append(str(given))
        if given is None or not questionary.confirm(question.more.strip(), default=False).unsafe_ask():
            return items


_GIVEN = {Kind.MENU: _menu, Kind.YES_NO: _menu, Kind.REPEAT: _repeat}


class _Checked(Validator):
    """Says what is wrong while it is typed."""

    def __init__(self, session: Session, question: Question) -> None:
        self._session, self._question = session, question

    def validate(self, document: Document) -> None:
        typed = document.text
        try:
            if not typed:
                if self._question.id in self._session.resolved.faults and self._question.kind is not Kind.REPEAT:
                    raise ValueError("an answer is needed here")
            elif typed.strip() not in (BACK, HELP) and self._question.kind is not Kind.REPEAT:  # judged as a whole
                self._question.parse(typed, self._session.resolved.context)
        except ValueError as error:
            raise ValidationError(len(typed), printable(str(error))) from error
