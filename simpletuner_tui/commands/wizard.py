"""Asking all questions, and then what to do with the answers."""

import io
import sys
from pathlib import Path

from launcher.config.setting import Level
from launcher.errors import ExitCode, InvalidInputError, LauncherError
from simpletuner_tui.answers import Answers, judge_answers, write_answers
from simpletuner_tui.frontends.accessible import COMMANDS, Lines, QuitWalkError, ask, walk
from simpletuner_tui.launching import default_run_dir, prepare, start_and_follow
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.saving import saving
from simpletuner_tui.session import Session
from simpletuner_tui.text import estimate_lines

ACTIONS = "run, cost, save FILE, list, a question's number to change it, or quit: "


def plain_wizard() -> ExitCode:
    """Walks the questions as prompts, then goes on as the lines do.

    Raises:
        InvalidInputError: the input ends too early.
    """
    from simpletuner_tui.frontends import plain  # noqa: PLC0415 - prompt_toolkit is loaded only to prompt with

    session = Session(REGISTRY, {})
    tell("back and ? (help) are understood; Ctrl-C leaves.")
    try:
        plain.walk(session)
    except EOFError as error:
        raise InvalidInputError("the input ended before the last question was answered; nothing was started") from error
    return _decide(Lines(sys.stdin, sys.stdout), session)


def accessible_wizard() -> ExitCode:
    """Walks the questions as lines, shows what they amount to, and starts or saves.

    Raises:
        InvalidInputError: the input ends too early.
    """
    # A closed stdin is one that has ended.
    lines = Lines(sys.stdin or io.StringIO(), sys.stdout)
    session = Session(REGISTRY, {})
    lines.say("Fine-tune SDXL with DeepSpeed ZeRO offload. " + COMMANDS)
    try:
        walk(lines, session)
    except QuitWalkError:
        lines.say("Nothing was started.")
        return ExitCode.OK
    return _decide(lines, session)


def _decide(lines: Lines, session: Session) -> ExitCode:
    """Asks what to do with the answers until something ends it."""
    try:
        while True:
            result = _act(lines, session, lines.hear(ACTIONS).strip())
            if result is not None:
                return result
    except QuitWalkError:
        lines.say("Nothing was started.")
        return ExitCode.OK


def _act(lines: Lines, session: Session, action: str) -> ExitCode | None:
    """One action; the exit code when it was the last."""
    answers = Answers(session.answers, Path.cwd())
    word, _, rest = action.partition(" ")
    try:
        if word == "run":
            prepared = prepare(answers, default_run_dir("sdxl"))
            return start_and_follow(prepared, force=False, detach=False, as_json=False)
        if word == "cost":
            for line in estimate_lines(prepare(answers, default_run_dir("sdxl")).plan.estimate):
                lines.say(line)
        elif word == "save" and rest:
            _save(lines, session, typed_path(rest))
        elif word.isdigit():
            _change(lines, session, int(word))
        else:
            _list(lines, session)
    except LauncherError as error:
        for line in str(error).splitlines():
            lines.say(line)
    return None


def _list(lines: Lines, session: Session) -> None:
    resolved = session.resolved
    asking = [question for question in resolved.asked if question.asks]
    for number, question in enumerate(asking, start=1):
        value = resolved.values.get(question.id)
        lines.say(f"{number}. {question.id}: {'' if value is None else question.show(value, resolved.context)}")
    judgement = judge_answers(session.answers, resolved, Path.cwd(), REGISTRY)
    for problem in judgement.problems:
        lines.say(f"{'error' if problem.level is Level.ERROR else 'warning'}: {problem.field}: {problem.message}")


def _change(lines: Lines, session: Session, number: int) -> None:
    asking = [question for question in session.resolved.asked if question.asks]
    if not 1 <= number <= len(asking):
        raise InvalidInputError(f"there are questions 1 to {len(asking)}")
    session.go_to(asking[number - 1].id)
    ask(lines, session)
    session.skip_to_open_question()
    walk(lines, session)


def _save(lines: Lines, session: Session, path: Path) -> None:
    planned = saving(path, write_answers(session.resolved, Path.cwd(), path.absolute().parent))
    if planned.before is not None and not planned.changes_nothing:
        raise InvalidInputError(f"{path} is there already; give another name")
    planned.write()
    lines.say(f"Saved. `simpletuner-tui --replay {path}` starts it.")
