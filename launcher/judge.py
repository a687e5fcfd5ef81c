"""What speaks against settings, whichever machine they run on."""

from dataclasses import replace

from launcher.config.rules import broken_rules
from launcher.config.setting import Problem
from launcher.config.settings import Settings
from launcher.deepspeed import rules
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.parts import OF_TRAINING
from launcher.deepspeed.run_facts import facts_of
from launcher.estimate.model import ModelFacts

_WITHOUT_DEEPSPEED = ("optimizer.params.", "scheduler.params.")
"""Where fields begin that hold for plain PyTorch too."""


def judge(settings: Settings, model: ModelFacts) -> list[Problem]:
    """Every rule that settings break, errors and warnings, each named by a public field.

    DeepSpeed's own part is judged as deepspeed.json, by the rules that ``deepspeed --check`` and the builder use.

    Args:
        settings: those of a run.
        model: its sizes.
    """
    problems = broken_rules(settings.launch, settings.deepspeed, settings.training)
    run = facts_of(settings).given(parameters=model.parameters)
    found = rules.judge(settings.deepspeed_json(), run, read_installed())
    if not settings.launch.deepspeed:
        found = [problem for problem in found if problem.field.startswith(_WITHOUT_DEEPSPEED)]
    return problems + [replace(problem, field=_public(problem.field)) for problem in found]


def _public(path: str) -> str:
    if path == "deepspeed":  # the installed version
        return "accelerate.use_deepspeed"
    return f"training.{OF_TRAINING[path]}" if path in OF_TRAINING else f"deepspeed.{path}"
