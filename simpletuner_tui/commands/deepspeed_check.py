"""``deepspeed FILE --check``: a configuration set right and judged, without a person."""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from launcher.config.setting import Level, Problem
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.normalise import Change, normalise
from launcher.deepspeed.opening import Opened, open_bytes, open_file
from launcher.deepspeed.reading import LARGEST
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.templates import find_template
from launcher.deepspeed.view import ABSENT
from launcher.errors import ExitCode, InvalidInputError
from simpletuner_tui.messages import tell
from simpletuner_tui.paths import typed_path
from simpletuner_tui.text import is_ascii

LONGEST_TOLD = 120
"""Characters of a value that a line about a change shows."""


def check(arguments: Namespace, run: RunFacts) -> ExitCode:
    """Prints the normalised JSON, and tells every change and problem.

    Raises:
        InvalidInputError: there is nothing to check.
    """
    opened = _open(arguments)
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


def _open(arguments: Namespace) -> Opened:
    if arguments.template is not None:
        return Opened(dict(find_template(arguments.template).config))
    if arguments.file is None:
        raise InvalidInputError("--check needs a FILE, - for stdin, or --template NAME")
    if arguments.file == "-":
        content = sys.stdin.buffer.read(LARGEST + 1) if sys.stdin else b""  # a closed one has ended
        return open_bytes(content, Path.cwd())
    return open_file(typed_path(arguments.file))


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
    print_json(told)


def print_json(content: object) -> None:
    """JSON on stdout, in the characters it has."""
    print(json.dumps(content, indent=2, ensure_ascii=is_ascii(sys.stdout)))  # noqa: T201


def _print_text(config: object, changes: Sequence[Change], problems: Sequence[Problem]) -> None:
    if config is not None:
        print_json(config)
    arrow = "->" if is_ascii(sys.stderr) else "→"
    for change in changes:
        tell(f"changed {change.field}: {_told(change.before)} {arrow} {_told(change.after)} ({change.reason})")
    for problem in problems:
        tell(f"{problem.level} {problem.field}: {problem.message} [{problem.rule}]")


def _told(value: object) -> str:
    if value is ABSENT:
        return "nothing"
    text = json.dumps(value, ensure_ascii=is_ascii(sys.stderr))
    return text if len(text) <= LONGEST_TOLD else f"{text[: LONGEST_TOLD - 3]}..."
