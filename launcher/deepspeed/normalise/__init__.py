"""A configuration as DeepSpeed has to get it, with every change of it and its reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from launcher.config.setting import Problem
from launcher.deepspeed.installed import Installed
from launcher.deepspeed.normalise.offload import settle_auto, settle_nvme
from launcher.deepspeed.normalise.optimizer import settle_optimizer
from launcher.deepspeed.normalise.removed import drop_idle
from launcher.deepspeed.normalise.run import CLIPPING, MICRO, STEPS, settle_batch, settle_clipping, settle_precision
from launcher.deepspeed.normalise.scheduler import settle_scheduler
from launcher.deepspeed.normalise.sheet import Change, Sheet
from launcher.deepspeed.normalise.spellings import understand_names, understand_shapes, understand_stage
from launcher.deepspeed.normalise.values import understand_values
from launcher.deepspeed.rules import judge
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.view import View

__all__ = ["Change", "Normalised", "normalise", "understand"]

OF_THE_RUN: Mapping[str, str] = MappingProxyType(
    {
        MICRO: "train_batch_size",
        STEPS: "gradient_accumulation_steps",
        CLIPPING: "gradient_clipping",
        "optimizer.params.lr": "learning_rate",
    }
)
"""What configuration and run both say, by path: the run's name for it."""


@dataclass(frozen=True, slots=True)
class Normalised:
    """What became of a configuration."""

    config: dict[str, Any]
    changes: tuple[Change, ...]
    problems: tuple[Problem, ...]
    """What is wrong with ``config``, by JSON path; what was mended is among the changes."""
    sources: Mapping[str, str]
    """For each of :data:`OF_THE_RUN`: ``this file`` or ``the run``, whichever said it."""


def understand(config: Mapping[str, Any], installed: Installed) -> Sheet:
    """The configuration as it was meant, whichever run it belongs to: what is only spelled otherwise is set right.

    Args:
        config: DeepSpeed's JSON as an object; it is left alone.
        installed: the DeepSpeed that will read it.
    """
    sheet = Sheet(config)
    understand_shapes(sheet)
    understand_names(sheet)
    understand_stage(sheet)
    understand_values(sheet)
    drop_idle(sheet, installed)
    return sheet


def normalise(config: Mapping[str, Any], run: RunFacts, installed: Installed) -> Normalised:
    """The configuration in DeepSpeed's own words; what the builder does not know stays where it is, untouched.

    Normalising the result again changes nothing.

    Args:
        config: DeepSpeed's JSON as an object; it is left alone.
        run: the run it belongs to.
        installed: the DeepSpeed that will read it.
    """
    sheet = understand(config, installed)
    said = {path for path in OF_THE_RUN if not sheet.missing(path)}
    settle_optimizer(sheet, run, installed)
    settle_scheduler(sheet, run)
    settle_batch(sheet, run)
    settle_clipping(sheet, run)
    settle_precision(sheet, run)
    settle_nvme(sheet, run)
    settle_auto(sheet, run)
    sources = {path: "this file" if path in said else "the run" for path in OF_THE_RUN if View(sheet.config).has(path)}
    return Normalised(sheet.config, tuple(sheet.changes), tuple(judge(sheet.config, run, installed)), sources)
