"""Everything a person should see before anything is written: answers, faults, files, command line."""

from dataclasses import dataclass
from pathlib import Path

from launcher.config.ignored_by_launch import ignored_by_accelerate_launch
from launcher.config.setting import Level, Problem
from launcher.preflight import Machine
from simpletuner_tui.answers import Answers, faults_in, judge_answers
from simpletuner_tui.documents import Document
from simpletuner_tui.launching import Prepared, prepare
from simpletuner_tui.questions.accelerate.file import accelerate_file
from simpletuner_tui.questions.model import Question
from simpletuner_tui.questions.resolving import Resolved
from simpletuner_tui.session import Session


@dataclass(frozen=True, slots=True)
class ReviewRow:
    """One answer in force."""

    question: Question
    value: str
    changed: bool
    """Whether it differs from the question's default."""
    source: str
    """The file it stands in already; empty where it is a default or was answered in this walk."""
    fault: str | None


@dataclass(frozen=True, slots=True)
class Review:
    """What a walk amounts to."""

    rows: tuple[ReviewRow, ...]
    problems: tuple[Problem, ...]
    """Of answers and of this machine, errors first."""
    notes: tuple[str, ...]
    files: dict[str, str]
    """By name: what would be written, and the command line."""
    prepared: Prepared | None
    """None while an answer is faulty or missing."""

    @property
    def why_not_launched(self) -> str | None:
        """The first error, which stops a launch."""
        errors = [problem for problem in self.problems if problem.level is Level.ERROR]
        return f"{errors[0].field}: {errors[0].message}" if errors else None


def review(session: Session, document: Document, base: Path, run_dir: Path, machine: Machine) -> Review:
    """Judges and plans; writes nothing.

    Args:
        session: its answers and defaults.
        document: what they make.
        base: the folder that relative paths count from.
        run_dir: where a run would lie.
        machine: what it would run on.
    """
    resolved, registry = session.resolved, document.registry
    rows = tuple(_row(session, question) for question in resolved.asked if _is_told(question, resolved))
    ignored = ignored_by_accelerate_launch(accelerate_file(resolved))
    files = dict(document.preview(resolved, base).files)
    if not document.launches:
        return Review(rows, tuple(faults_in(resolved)), ignored, files, None)
    judgement = judge_answers(session.answers, resolved, base, registry)
    problems, notes, prepared = list(judgement.problems), [*judgement.notes, *ignored], None
    if not any(problem.level is Level.ERROR for problem in problems):
        prepared = prepare(Answers(session.answers, base), run_dir, registry=registry, machine=machine)
        found = [Problem(each.field, each.message, each.level, "machine") for each in prepared.findings]
        problems += [problem for problem in found if problem.level is not Level.NOTE]
        notes += [problem.message for problem in found if problem.level is Level.NOTE]
        notes += prepared.plan.notes
        files |= _planned(prepared)
    problems.sort(key=lambda problem: problem.level is not Level.ERROR)
    return Review(rows, tuple(problems), tuple(notes), files, prepared)


def _is_told(question: Question, resolved: Resolved) -> bool:
    """Whether an answer says something by itself: that more was asked, the answers that follow say."""
    return question.asks and not (question.unchanged and resolved.values.get(question.id) is True)


def _row(session: Session, question: Question) -> ReviewRow:
    resolved, fault = session.resolved, session.resolved.faults.get(question.id)
    if question.unchanged:
        return ReviewRow(question, question.unchanged, False, session.source_of(question), fault)
    value = resolved.values.get(question.id)
    shown = "" if value is None else question.show(value, resolved.context)
    changed = value is not None and value != question.default_in(resolved.context)
    return ReviewRow(question, shown, changed, session.source_of(question), fault)


def _planned(prepared: Prepared) -> dict[str, str]:
    plan = prepared.plan
    files = {name: content.decode() for name, content in plan.files.items()}
    environment = "\n".join(f"{key}={value}" for key, value in plan.environment.items())
    files["command line"] = f"{environment}\n{' '.join(plan.argv)}\n"
    return files
