"""From answers to a started run: the part every front end shares."""

import time
from dataclasses import dataclass
from pathlib import Path

from launcher.config.setting import Level
from launcher.errors import ExitCode, RefusedToOverwriteError
from launcher.plan import Plan, make_plan
from launcher.preflight import Finding, preflight, raise_for
from launcher.runs.directory import RunDirectory, create
from launcher.runs.spawn import launch
from launcher.runs.state import lock_is_held
from simpletuner_tui import follow
from simpletuner_tui.answers import Answers, judge_answers, write_answers
from simpletuner_tui.follow import tell
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.model import Resolved, resolve
from simpletuner_tui.session import probe_machine


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan and what speaks against it on this machine."""

    plan: Plan
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> ExitCode:
        """What a launch would end with now."""
        errors = {finding.exit_code for finding in self.findings if finding.level is Level.ERROR}
        if ExitCode.USAGE in errors:
            return ExitCode.USAGE
        return ExitCode.CANNOT_RUN_HERE if errors else ExitCode.OK


def prepare(answers: Answers, run_dir: Path, *, strict: bool = False) -> Prepared:
    """Plans a run; nothing is written.

    Raises:
        InvalidInputError: lists every fault of the answers.
    """
    resolved = resolve(REGISTRY, answers.values, probe_machine())
    judgement = judge_answers(answers.values, resolved, answers.base, REGISTRY, strict=strict)
    for note in judgement.notes:
        tell(f"note: {note}")
    judgement.raise_errors()
    for problem in judgement.problems:
        tell(f"warning: {problem.field}: {problem.message}")
    plan = make_plan(judgement.settings, _saved(resolved, answers.base, run_dir), run_dir)
    return Prepared(plan, tuple(preflight(plan)))


def _saved(resolved: Resolved, base: Path, run_dir: Path) -> bytes:
    return write_answers(resolved, base, run_dir.absolute())


def start(prepared: Prepared, *, force: bool = False) -> RunDirectory:
    """Writes the run directory and starts its supervisor.

    Raises:
        LauncherError: this machine cannot run it, or the run directory is taken.
    """
    for finding in prepared.findings:
        if finding.level is Level.WARNING or (force and finding.forceable):
            tell(f"warning: {finding.field}: {finding.message}")
    raise_for(list(prepared.findings), force=force)
    plan = prepared.plan
    resumes = plan.settings.training.checkpoints.resume_from_checkpoint == "latest"
    _refuse_taken(plan.run_dir, resumes=resumes)
    for note in plan.notes:
        tell(f"note: {note}")
    run = create(plan.run_dir, plan.files)
    launch(run)
    return run


def start_and_follow(prepared: Prepared, *, force: bool, detach: bool, as_json: bool) -> ExitCode:
    """Starts a run and shows it to its end, or leaves it to itself."""
    events = RunDirectory(prepared.plan.run_dir).events_jsonl
    offset = events.stat().st_size if events.exists() else 0
    run = start(prepared, force=force)
    if detach:
        print(run.path)  # noqa: T201
        tell(f"{run.name} trains by itself: simpletuner-tui attach {run.name} · stop {run.name} · logs {run.name}")
        return ExitCode.OK
    tell(f"{run.name} in {run.path}")
    return follow.follow(run, as_json=as_json, offset=offset)


def default_run_dir(name: str) -> Path:
    """``./runs/<name>-<time>``, with a number where that is there already."""
    stem = Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (stem if count == 1 else stem.with_name(f"{stem.name}-{count}") for count in range(1, 1000))
    return next(path for path in candidates if not path.exists())


def _refuse_taken(path: Path, *, resumes: bool) -> None:
    run = RunDirectory(path)
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not run.plan_json.exists():
        raise RefusedToOverwriteError(f"{path} is there already and is no run; choose another with --run-dir")
    if lock_is_held(run):
        raise RefusedToOverwriteError(
            f"{path} is being trained already; follow it with `simpletuner-tui attach {run.name}`"
        )
    if not resumes:
        raise RefusedToOverwriteError(
            f"{path} holds a run already, and training.resume_from_checkpoint is `no`; answer `latest` to continue "
            "it, or choose another with --run-dir"
        )
