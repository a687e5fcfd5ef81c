"""Asking all questions, and then what to do with the answers."""

import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from launcher.config.setting import Level
from launcher.errors import ExitCode, InvalidInputError, LauncherError
from launcher.preflight import Machine
from simpletuner_tui.answers import Answers, judge_answers, write_answers
from simpletuner_tui.builder.editing import Editing
from simpletuner_tui.builder.plan import apply, builder_of, name_file, of_file
from simpletuner_tui.commands.asking import ask_questions
from simpletuner_tui.costs import estimate_lines
from simpletuner_tui.documents import Document
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.frontends.accessible import Lines, QuitWalkError, ask, walk
from simpletuner_tui.frontends.build_lines import BuilderLines
from simpletuner_tui.frontends.building import hold
from simpletuner_tui.launching import default_run_dir, prepare, start_and_follow
from simpletuner_tui.paths import typed_path
from simpletuner_tui.pricing import card_for
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.recommending import budget_of, propose
from simpletuner_tui.rehearsing import rehearse_and_tell
from simpletuner_tui.saving import saving
from simpletuner_tui.session import Session
from simpletuner_tui.setups import remember
from simpletuner_tui.text import mib_of

ACTIONS = (
    "run, rehearse (two steps of it), cost, save FILE, list, build (DeepSpeed's JSON), recommend [VRAM], take back, "
    "a question's number to change it, or quit: "
)


def wizard_in_lines(document: Document, session: Session, *, prompts: bool) -> ExitCode:
    """Walks the questions as lines or as prompts, shows what they amount to, and starts or saves.

    Args:
        document: a run's.
        session: with answers from the command line.
        prompts: as questionary's prompts; what comes after the questions is lines all the same.

    Raises:
        InvalidInputError: the input ends too early.
    """
    # A closed stdin is one that has ended.
    lines = Lines(sys.stdin or io.StringIO(), sys.stdout)
    try:
        greeting = "Fine-tune SDXL with DeepSpeed ZeRO offload."
        drafts = ask_questions(document, session, lines, greeting, prompts=prompts)
        while True:
            result = _act(lines, document, session, drafts, lines.hear(ACTIONS).strip())
            if result is not None:
                return result
    except QuitWalkError:
        lines.say("Nothing was started.")
        return ExitCode.OK


def _act(lines: Lines, document: Document, session: Session, drafts: Drafts | None, action: str) -> ExitCode | None:
    """One action; the exit code when it was the last."""

    def settled() -> None:
        if drafts is not None:
            drafts.drop(session.kept_answers)

    answers = Answers(session.answers, Path.cwd())
    word, _, rest = action.partition(" ")
    try:
        if word == "run":
            prepared = prepare(answers, default_run_dir("sdxl"))
            return start_and_follow(prepared, force=False, detach=False, as_json=False, started=settled)
        if word == "rehearse":
            rehearse_and_tell(prepare(answers, default_run_dir("sdxl")))
        elif word == "cost":
            plan = prepare(answers, default_run_dir("sdxl")).plan
            for line in estimate_lines(plan.estimate, card_for(plan)):
                lines.say(line)
        elif word == "save" and rest:
            _save(lines, session, typed_path(rest))
            settled()
        elif word in CHANGES:
            CHANGES[word](lines, document, session, rest)
            if drafts is not None:
                drafts.keep(session.kept_answers, "")
        elif word.isdigit():
            _change(lines, session, int(word))
        else:
            _list(lines, session)
    except LauncherError as error:
        for line in str(error).splitlines():
            lines.say(line)
    return None


def _build(lines: Lines, document: Document, session: Session, _: str) -> None:
    """The DeepSpeed builder on the answers; what is applied, or the file that is saved, becomes answers."""
    if not document.builds.holds(session.resolved.context):
        raise InvalidInputError("DeepSpeed is not used with these answers: there is nothing to build")
    in_file = of_file(session.resolved)
    builder, path = builder_of(session.resolved, Path.cwd())
    asks = BuilderLines(lines.reads, lines.writes)
    outcome = hold(Editing(builder, path, None, applies=not in_file), asks)
    if outcome is not None and outcome.saved is not None:
        lines.say(name_file(session, outcome.saved))
    elif outcome is not None and outcome.applied is not None:
        lines.say(apply(outcome.applied, session, Path.cwd(), document.registry))


def _recommend(lines: Lines, document: Document, session: Session, vram: str) -> None:
    """The fastest setting for a card, shown and taken; ``take back`` undoes it."""
    machine = Machine()
    found = machine.gpus()
    if not vram and not found.gpus:
        raise InvalidInputError(f"there is no GPU here ({found.reason}): say of which size, such as recommend 12GiB")
    try:
        free = mib_of(vram) if vram else min(gpu.free_mib for gpu in found.gpus)
    except ValueError as error:
        raise InvalidInputError(str(error)) from None
    budget = budget_of(free, machine, Path.cwd())
    proposal = propose(session.answers, session.resolved, Path.cwd(), document.registry, budget)
    for line in proposal.lines:
        lines.show(line)
    if proposal.answers:
        session.take_on_trial(proposal.answers)
        lines.say("The answers say so now; `take back` undoes it.")


def _take(lines: Lines, _: Document, session: Session, rest: str) -> None:
    """``take back``: what was answered before the recommendation."""
    if rest != "back" or not session.on_trial:
        raise InvalidInputError("there is no recommendation to take back")
    session.take_back()
    lines.say("The answers are what they were before.")


CHANGES: Mapping[str, Callable[[Lines, Document, Session, str], None]] = {
    "build": _build,
    "recommend": _recommend,
    "take": _take,
}
"""Actions that change several answers, by their first word."""


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
    remember(path)
    lines.say(f"Saved. `simpletuner-tui --replay {path}` starts it.")
