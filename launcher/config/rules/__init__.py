"""Rules as data: what DeepSpeed 0.19.8 refuses, ignores or gets wrong, known by having run it."""

from launcher.config.accelerate import LaunchSettings
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.rules.zero import RULES
from launcher.config.setting import Level, Problem
from launcher.config.training import TrainingSettings
from launcher.deepspeed.installed import UNTESTED, installed_version, untested

__all__ = ["judge"]


def judge(launch: LaunchSettings, deepspeed: DeepSpeedSettings, training: TrainingSettings) -> list[Problem]:
    """Every rule these settings break, errors and warnings."""
    problems = [
        Problem(rule.field, rule.message, rule.level, rule.id)
        for rule in RULES
        if rule.broken(launch, deepspeed, training)
    ]
    if launch.deepspeed and (message := untested(installed_version())):
        problems.append(Problem("accelerate.use_deepspeed", message, Level.WARNING, UNTESTED))
    return problems
