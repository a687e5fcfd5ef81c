"""Answers from a file: run them, check them, price them, rehearse them."""

import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from launcher.errors import ExitCode, InvalidInputError
from launcher.machine.gpus import read_nvml, visible_to
from launcher.plan import Plan
from simpletuner_tui.answers import Answers, read_answers
from simpletuner_tui.costs import estimate_lines, judged
from simpletuner_tui.launching import Prepared, default_run_dir, prepare, start_and_follow
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path
from simpletuner_tui.presets import find_preset
from simpletuner_tui.pricing import card_for, measurable
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.accelerate.deepspeed import OFFLOAD_PATH
from simpletuner_tui.rehearsing import rehearse_and_tell


def replay(arguments: Namespace) -> ExitCode:
    """``--replay FILE``: answers → check → run directory → launch → follow to the end."""
    prepared = _prepare(arguments, arguments.replay)
    if arguments.dry_run:
        _print_plan(prepared, as_json=arguments.json)
        return _tell_findings(prepared.forced() if arguments.force else prepared)
    return start_and_follow(prepared, force=arguments.force, detach=arguments.detach, as_json=arguments.json)


def check(arguments: Namespace) -> ExitCode:
    """``check FILE``: every fault at once, of the answers and of this machine."""
    prepared = _prepare(arguments, arguments.file)
    if arguments.json:
        findings = [
            {"field": finding.field, "level": finding.level, "message": finding.message}
            for finding in prepared.findings
        ]
        _print_json({"exit_code": int(prepared.exit_code), "findings": findings, "notes": prepared.plan.notes})
        return prepared.exit_code
    code = _tell_findings(prepared)
    if code is ExitCode.OK:
        tell(f"{arguments.file} can run here")
    return code


def estimate(arguments: Namespace) -> ExitCode:
    """``estimate FILE``: what it costs, and whether this machine's GPUs or another card can take it."""
    plan = _prepare(arguments, arguments.file).plan
    card = card_for(plan, arguments.vram)
    if not arguments.json:
        print("\n".join([*estimate_lines(plan.estimate, card), *_to_measure(plan)]))  # noqa: T201
        return ExitCode.OK
    held_against = card and {**asdict(card), "verdict": judged(plan.estimate, card)[0]}
    _print_json({**plan.estimate.to_json(), "card": held_against})
    return ExitCode.OK


def _to_measure(plan: Plan) -> Iterator[str]:
    """How to learn the seconds of a step, where that takes no more than measuring this machine's GPU."""
    wanted = measurable(plan.settings, visible_to(read_nvml(), plan.settings.launch.gpu_ids))
    if wanted is not None:
        yield f"The seconds of a step wait for this machine to be measured: {wanted.command} would tell them."


def rehearse(arguments: Namespace) -> ExitCode:
    """``rehearse FILE``: two steps of it, and what they measured."""
    prepared = _prepare(arguments, arguments.file)
    return rehearse_and_tell(prepared, force=arguments.force, as_json=arguments.json)


def load_answers(name: str) -> Answers:
    """Answers from a file, or from stdin when its name is ``-``.

    Raises:
        InvalidInputError: it cannot be read.
    """
    if name == "-":
        if sys.stdin is None:  # closed
            raise InvalidInputError("there is no stdin to read answers from; name a file instead of -")
        return read_answers(sys.stdin.buffer.read(), Path.cwd(), "stdin")
    path = typed_path(name)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    return read_answers(content, path.absolute().parent, str(path))


def _prepare(arguments: Namespace, file: str) -> Prepared:
    answers, run_dir = answers_and_run_dir(arguments, file)
    return prepare(answers, run_dir, strict=arguments.strict)


def answers_and_run_dir(arguments: Namespace, file: str) -> tuple[Answers, Path]:
    """The answers in a file with those of the command line over them, and where the run lies.

    Raises:
        InvalidInputError: the file cannot be read, or an option means nothing.
    """
    answers = load_answers(file)
    if arguments.preset is not None:
        answers = replace(answers, values={**find_preset(arguments.preset).answers, **answers.values})
    answers = answers.with_typed(typed(arguments), Path.cwd(), REGISTRY)
    return answers, typed_path(arguments.run_dir) if arguments.run_dir else default_run_dir(_name(file))


def typed(arguments: Namespace) -> dict[str, str]:
    """Answers of the command line, by id.

    Raises:
        InvalidInputError: one is not written as an answer.
    """
    found = {}
    if arguments.offload_param_path is not None:
        found[OFFLOAD_PATH] = arguments.offload_param_path
    for assignment in arguments.set:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise InvalidInputError(f"--set {assignment}: write it as --set id=value")
        found[key.strip()] = value
    return found


def _name(file: str) -> str:
    """What runs of a file are called: ``answers.json`` says little, its folder more."""
    if file == "-":
        return "sdxl"
    path = typed_path(file).absolute()
    return path.parent.name or "sdxl" if path.stem == "answers" else path.stem


def _tell_findings(prepared: Prepared) -> ExitCode:
    for finding in prepared.findings:
        tell(f"{finding.level}: {finding.field}: {finding.message}")
    for note in prepared.plan.notes:
        tell(f"note: {note}")
    return prepared.exit_code


def _print_plan(prepared: Prepared, *, as_json: bool) -> None:
    plan = prepared.plan
    if as_json:
        files = {name: content.decode() for name, content in plan.files.items()}
        _print_json(
            {
                "run_dir": str(plan.run_dir),
                "argv": plan.argv,
                "environment": plan.environment,
                "files": files,
                "estimate": plan.estimate.to_json(),
            }
        )
        return
    for name, content in plan.files.items():
        print(f"# {plan.home / name}\n{content.decode()}")  # noqa: T201
    environment = " ".join(f"{key}={shlex.quote(value)}" for key, value in plan.environment.items())
    print(f"# in {plan.home}\n{environment} {shlex.join(plan.argv)}")  # noqa: T201


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))  # noqa: T201
