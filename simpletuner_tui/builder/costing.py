"""What a configuration that is being edited amounts to as settings, so that it can be priced."""

from collections.abc import Mapping
from typing import Any

from launcher.config.accelerate import LaunchSettings
from launcher.config.deepspeed_json import read_deepspeed
from launcher.config.settings import Settings
from launcher.config.training import read_training
from launcher.deepspeed.parts import OF_TRAINING, parts_of
from launcher.deepspeed.run_facts import RunFacts, facts_of


def settings_with(config: Mapping[str, Any], around: Settings) -> Settings:
    """The settings of a run with this configuration.

    Args:
        config: DeepSpeed's JSON, normalised for the run and without errors.
        around: what the run is beside it.
    """
    parts = parts_of(config, facts_of(around))
    deepspeed, _ = read_deepspeed(parts.deepspeed, parts.extra)
    training, _ = read_training({**around.training.to_json(), **parts.training})
    return Settings(around.launch, deepspeed, training)


def settings_around(run: RunFacts) -> Settings:
    """The run that is known by a few facts alone: SDXL, and everything else as the questions propose it."""
    training, _ = read_training({key: getattr(run, key) for key in (*OF_TRAINING.values(), "max_train_steps")})
    return Settings(LaunchSettings(run.world_size, use_cpu=run.device == "cpu"), training=training)
