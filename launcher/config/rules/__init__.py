"""Rules as data: what of a launch does not go together. DeepSpeed's own are in ``launcher/deepspeed/rules``."""

from launcher.config.accelerate import LaunchSettings
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.rules.ema import EMA
from launcher.config.rules.launch import LAUNCH
from launcher.config.rules.notification import NOTIFICATION
from launcher.config.setting import Problem
from launcher.config.training import TrainingSettings

__all__ = ["RULES", "broken_rules"]

RULES = (*LAUNCH, *EMA, *NOTIFICATION)


def broken_rules(launch: LaunchSettings, deepspeed: DeepSpeedSettings, training: TrainingSettings) -> list[Problem]:
    """Every rule these settings break, errors and warnings."""
    return [
        Problem(rule.field, rule.message, rule.level, rule.id)
        for rule in RULES
        if rule.broken(launch, deepspeed, training)
    ]
