"""Answers as the launcher reads them, without a file of them and without a launch."""

import json
from pathlib import Path
from typing import Any

from launcher.config.settings import Settings
from simpletuner_tui.answers import read_answers, read_resolved
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.model import resolve
from simpletuner_tui.session import probe_machine


def settings_of(answers: dict[str, Any]) -> Settings:
    """What a launch of these answers would train with, as this machine has it or not."""
    file = json.dumps({"schema": 1, "answers": answers}).encode()
    given = read_answers(file, Path.cwd(), "answers")
    return read_resolved(resolve(REGISTRY, given.values, probe_machine()), given.base).settings
