"""``questions``: the registry, for people and programs."""

import json
from argparse import Namespace

from launcher.errors import ExitCode
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.conditions import Context


def questions(arguments: Namespace) -> ExitCode:
    """Prints every question."""
    if arguments.json:
        print(json.dumps([question.to_json() for question in REGISTRY], indent=2, ensure_ascii=False))  # noqa: T201
        return ExitCode.OK
    nothing_known = Context({})
    section = ""
    for question in REGISTRY:
        if question.section != section:
            section = question.section
            print(f"\n{section}\n{'-' * len(section)}")  # noqa: T201
        print(f"{question.id}\n    {question.text_in(nothing_known).strip()}")  # noqa: T201
    return ExitCode.OK
