"""``deepspeed``: a DeepSpeed configuration edited in full screen, or set right and judged without one."""

import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.config.setting import Level, Problem
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.normalise import Change, normalise
from launcher.deepspeed.opening import Opened, open_bytes, open_file
from launcher.deepspeed.reading import LARGEST
from launcher.deepspeed.run_facts import RunFacts, parse_run
from launcher.deepspeed.view import ABSENT
from launcher.errors import ExitCode, InvalidInputError
from simpletuner_tui.commands.front_ends import at_a_terminal, can_be_drawn_on
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path

LONGEST_TOLD = 120
"""Characters of a value that a line about a change shows."""


def deepspeed(arguments: Namespace) -> ExitCode:
    """Opens the builder, or with ``--check`` prints and tells only.

    Raises:
        InvalidInputError: a fact of the run that ``--run`` cannot mean; a file that holds no configuration; no file
            to check, or no terminal to draw on.
    """
    run, faults = parse_run(arguments.run)
    if faults:
        raise InvalidInputError("\n".join(faults))
    if arguments.check:
        return _check(arguments, run)
    return _edit(None if arguments.file is None else typed_path(arguments.file), run)


def _edit(path: Path | None, run: RunFacts) -> ExitCode:
    if not (at_a_terminal() and can_be_drawn_on()):
        raise InvalidInputError("the builder needs a terminal to be drawn on; --check needs none")
    config: Mapping[str, Any] = {}
    if path is not None and path.exists():
        opened = open_file(path)
        if opened.config is None:
            raise InvalidInputError("\n".join(f"{path}: {problem.message}" for problem in opened.problems))
        config = opened.config
        if not _is_own(path, config):
            path = None  # it is saved as a file of its own, not over the one it stands in
    from simpletuner_tui.tui.build import build  # noqa: PLC0415 - Textual is loaded only to be drawn with

    return build(path, config, run)


def _is_own(path: Path, config: Mapping[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_bytes()) == config)
    except ValueError:
        return False


def _check(arguments: Namespace, run: RunFacts) -> ExitCode:
    if arguments.file is None:
        raise InvalidInputError("--check needs a FILE, or - for stdin")
    opened = _open(arguments.file)
    problems = list(opened.problems)
    changes: Sequence[Change] = ()
    config = opened.config
    if config is not None:
        normalised = normalise(config, run, read_installed())
        config, changes = normalised.config, normalised.changes
        problems += normalised.problems
    if arguments.json:
        _print_json(config, changes, problems)
    else:
        _print_text(config, changes, problems)
    wrong = any(problem.level is Level.ERROR for problem in problems)
    return ExitCode.USAGE if wrong else ExitCode.OK


def _open(name: str) -> Opened:
    if name == "-":
        content = sys.stdin.buffer.read(LARGEST + 1) if sys.stdin else b""  # a closed one has ended
        return open_bytes(content, Path.cwd())
    return open_file(typed_path(name))


def _print_json(config: object, changes: Sequence[Change], problems: Sequence[Problem]) -> None:
    told = {
        "config": config,
        "changes": [
            {
                "field": change.field,
                "from": None if change.before is ABSENT else change.before,
                "to": None if change.after is ABSENT else change.after,
                "reason": change.reason,
            }
            for change in changes
        ],
        "problems": [
            {"field": problem.field, "rule": problem.rule, "level": problem.level, "message": problem.message}
            for problem in problems
        ],
    }
    print(json.dumps(told, indent=2, ensure_ascii=False))  # noqa: T201


def _print_text(config: object, changes: Sequence[Change], problems: Sequence[Problem]) -> None:
    if config is not None:
        print(json.dumps(config, indent=2, ensure_ascii=False))  # noqa: T201
    for change in changes:
        tell(f"changed {change.field}: {_told(change.before)} → {_told(change.after)} ({change.reason})")
    for problem in problems:
        tell(f"{problem.level} {problem.field}: {problem.message} [{problem.rule}]")


def _told(value: object) -> str:
    if value is ABSENT:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_TOLD else f"{text[: LONGEST_TOLD - 1]}…"
