"""Asking a document's questions in lines or in prompts, from where a person wants to start, with a draft kept."""

from functools import partial
from pathlib import Path

from launcher.errors import InvalidInputError
from simpletuner_tui.documents import Document
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.frontends import accessible
from simpletuner_tui.frontends.accessible import Lines
from simpletuner_tui.session import Session
from simpletuner_tui.starting import starts

PROMPT_COMMANDS = "back and ? (help) are understood; Ctrl-C leaves."


def ask_questions(document: Document, session: Session, lines: Lines, greeting: str, *, prompts: bool) -> Drafts | None:
    """Asks to the end of the registry.

    Args:
        document: what the answers make.
        session: is answered; what it was given beforehand is not asked to be started from.
        lines: where it is asked, and what is said besides prompts.
        greeting: said first.
        prompts: as questionary's prompts.

    Returns:
        Where the draft is, to be dropped once it is needed no more; None for a pipe, which has none.

    Raises:
        QuitWalkError: the person leaves.
        KeyboardInterrupt: the person leaves the prompts.
        InvalidInputError: the input ends too early.
    """
    drafts = document.drafts() if lines.from_person else None
    begin, walk = partial(accessible.begin, lines, session), partial(accessible.walk, lines, session)
    commands = accessible.COMMANDS
    if prompts:
        from simpletuner_tui.frontends import plain  # noqa: PLC0415 - prompt_toolkit is loaded only to prompt with

        begin, walk, commands = partial(plain.begin, session), partial(plain.walk, session), PROMPT_COMMANDS
    try:
        unsaved = begin(starts(document, drafts, Path.cwd())) if drafts and not session.answers else False
        if drafts and not unsaved:
            drafts.settle(session.kept_answers)
        lines.say(f"{greeting} {commands}")
        walk(drafts)
    except EOFError:
        raise InvalidInputError(f"the input ended before the last question was answered; {lines.undone}") from None
    return drafts
