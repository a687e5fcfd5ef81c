"""From answers to a started run: the part every front end shares."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.config.setting import Level, Problem
from launcher.config.settings import Settings
from launcher.errors import ExitCode
from launcher.estimate.traces import make
from launcher.plan import Plan, machine_home, make_plan
from launcher.preflight import Finding, Machine, exit_code_of, named, preflight, raise_for
from launcher.runs.directory import RunDirectory, create
from launcher.runs.spawn import launch
from simpletuner_tui import follow
from simpletuner_tui.answers import Answers, by_question, judge_answers, write_answers
from simpletuner_tui.messages import left_to_itself, tell
from simpletuner_tui.preview import traced_step
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.model import Question
from simpletuner_tui.questions.resolving import Resolved, resolve
from simpletuner_tui.session import probe_machine

PATIENCE, LONGEST = 1, 60
"""Seconds after which it is said that a step is being traced, and after which its trace is not waited for any more."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan and what speaks against it on this machine."""

    plan: Plan
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> ExitCode:
        """What a launch would end with now."""
        return exit_code_of(self.findings)

    def forced(self) -> "Prepared":
        """The same where ``--force`` makes a warning of what only an estimate says."""
        lowered = (replace(each, level=Level.WARNING) if each.forceable else each for each in self.findings)
        return replace(self, findings=tuple(lowered))


def prepare(
    answers: Answers,
    run_dir: Path,
    *,
    registry: Sequence[Question] = REGISTRY,
    strict: bool = False,
    machine: Machine | None = None,
) -> Prepared:
    """Plans a run; nothing is written.

    Args:
        answers: what was chosen.
        run_dir: where the run will lie.
        registry: every question.
        strict: an answer left to its default is a fault.
        machine: what it would run on; this one by default.

    Raises:
        InvalidInputError: lists every fault of the answers.
    """
    resolved = resolve(registry, answers.values, probe_machine())
    judgement = judge_answers(answers.values, resolved, answers.base, registry, strict=strict)
    for note in judgement.notes:
        tell(f"note: {note}")
    home = machine_home(run_dir.absolute(), judgement.settings.launch)
    if not judgement.errors and not judgement.settings.launch.use_cpu:
        wait_for_trace(judgement.settings)
    plan = make_plan(judgement.settings, write_answers(resolved, answers.base, home), run_dir)
    if judgement.errors:
        judgement.raise_errors(_named_too(plan, resolved, {problem.field for problem in judgement.errors}))
    for problem in judgement.problems:
        tell(f"warning: {problem.field}: {problem.message}")
    return Prepared(plan, tuple(by_question(finding, resolved) for finding in preflight(plan, machine)))


def wait_for_trace(settings: Settings) -> None:
    """Waits until the step of these settings is traced, or cannot be; says so where it takes a while."""
    begun, told = time.monotonic(), False
    for _ in make(traced_step(settings)):
        waited = time.monotonic() - begun
        if waited > LONGEST:
            return
        if waited > PATIENCE and not told:
            tell("a step of this U-Net is traced, to know what it takes of a GPU; this once, some seconds")
            told = True
        time.sleep(0.05)


def _named_too(plan: Plan, resolved: Resolved, told: set[str]) -> list[Problem]:
    """What is wrong with files that faulty answers name, so that whoever sets them right hears of it now."""
    found = (by_question(finding, resolved) for finding in named(plan))
    return [
        Problem(finding.field, finding.message)
        for finding in found
        if finding.level is Level.ERROR and finding.field in resolved.answered and finding.field not in told
    ]


def start(prepared: Prepared, *, force: bool = False) -> RunDirectory:
    """Writes the run directory and starts its supervisor.

    Raises:
        LauncherError: this machine cannot run it, or the run directory is taken.
    """
    if force:
        prepared = prepared.forced()
    for finding in prepared.findings:
        if finding.level is not Level.ERROR:
            tell(f"{finding.level}: {finding.field}: {finding.message}")
    raise_for(list(prepared.findings))
    plan = prepared.plan
    for note in plan.notes:
        tell(f"note: {note}")
    run = create(plan.home, plan.files)
    launch(run)
    return run


def start_and_follow(
    prepared: Prepared, *, force: bool, detach: bool, as_json: bool, started: Callable[[], object] = lambda: None
) -> ExitCode:
    """Starts a run and shows it to its end, or leaves it to itself.

    Args:
        prepared: what is started.
        force: although only an estimate says that it does not fit.
        detach: leave it to itself at once.
        as_json: events on stdout, one a line.
        started: called once it runs; following it may be cut off at any time.
    """
    offset = _told_before(RunDirectory(prepared.plan.home))
    with interrupts_held() as interrupts:
        run = start(prepared, force=force)
    started()
    if prepared.plan.home != prepared.plan.run_dir:
        tell(f"this machine takes part in {prepared.plan.run_dir}; follow the training on the first one")
    if interrupts:
        return follow.detach(run)
    if detach:
        print(run.path)  # noqa: T201
        tell(left_to_itself(run.name))
        return ExitCode.OK
    tell(f"{run.name} in {run.path}")
    return follow.follow(run, as_json=as_json, offset=offset)


def _told_before(run: RunDirectory) -> int:
    """Bytes of events from earlier launches."""
    try:
        return run.events_jsonl.stat().st_size
    except OSError:
        return 0


@contextmanager
def interrupts_held() -> Iterator[list[int]]:
    """Ctrl-C waits, for a moment: between a supervisor's start and its first word nobody would know whether it runs."""
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)


def default_run_dir(name: str) -> Path:
    """``./runs/<name>-<time>``, with a number where that is there already."""
    stem = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (stem if count == 1 else stem.with_name(f"{stem.name}-{count}") for count in range(1, 1000))
    return next(path for path in candidates if not path.exists())
