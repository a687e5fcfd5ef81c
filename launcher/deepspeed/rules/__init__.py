"""Rules as data: what DeepSpeed 0.19.8 refuses, ignores or gets wrong, known by having run it."""

from collections.abc import Mapping
from typing import Any

from launcher.config.setting import Problem
from launcher.deepspeed.installed import Installed
from launcher.deepspeed.rules.batch import BATCH
from launcher.deepspeed.rules.diagnostics import DIAGNOSTICS
from launcher.deepspeed.rules.names import name_problems
from launcher.deepspeed.rules.offload import OFFLOAD
from launcher.deepspeed.rules.optimizer import OPTIMIZER
from launcher.deepspeed.rules.precision import PRECISION
from launcher.deepspeed.rules.rule import Rule
from launcher.deepspeed.rules.scheduler import SCHEDULER
from launcher.deepspeed.rules.shape import shape_problems
from launcher.deepspeed.rules.twice import twice_problems
from launcher.deepspeed.rules.zero import ZERO
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import View

__all__ = ["RULES", "Rule", "judge"]

RULES: tuple[Rule, ...] = (*BATCH, *PRECISION, *ZERO, *OFFLOAD, *OPTIMIZER, *SCHEDULER, *DIAGNOSTICS)


def judge(config: Mapping[str, Any], run: RunFacts, installed: Installed) -> list[Problem]:
    """Everything wrong with a configuration, errors and warnings, each with the JSON path it belongs to.

    An error is what DeepSpeed would refuse, at the start or in a step; a warning is what it ignores, or does otherwise
    than it seems to say.

    Args:
        config: DeepSpeed's JSON as an object.
        run: the run it belongs to.
        installed: the DeepSpeed that will read it.
    """
    view = View(config)
    return [
        *name_problems(view, installed),
        *shape_problems(view, installed),
        *twice_problems(view),
        *(rule.problem(view, run) for rule in RULES if rule.broken(view, run)),
    ]
