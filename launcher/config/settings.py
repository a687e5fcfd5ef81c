"""All settings of a run, put together from what the questions set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.config.accelerate import LaunchSettings, read_accelerate
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import read_deepspeed, to_deepspeed_json
from launcher.config.setting import Problem
from launcher.config.training import TrainingSettings, read_training


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a plan is made from."""

    launch: LaunchSettings = field(default_factory=LaunchSettings)
    deepspeed: DeepSpeedSettings = field(default_factory=DeepSpeedSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    @property
    def global_batch_size(self) -> int:
        """Pictures per optimizer step over all processes."""
        return (
            self.training.optimization.train_batch_size
            * self.deepspeed.gradient_accumulation_steps
            * self.launch.num_processes
        )

    def deepspeed_json(self) -> dict[str, Any]:
        """deepspeed.json of the run directory."""
        optimization = self.training.optimization
        return to_deepspeed_json(
            self.deepspeed,
            train_batch_size=optimization.train_batch_size,
            learning_rate=optimization.learning_rate,
            warmup_steps=optimization.lr_warmup_steps,
            total_steps=optimization.max_train_steps,
        )


def read_settings(
    accelerate: Mapping[str, Any],
    deepspeed: Mapping[str, object],
    training: Mapping[str, object],
    deepspeed_extra: Mapping[str, Any] | None = None,
) -> tuple[Settings, list[Problem]]:
    """Settings from the questionnaire's file, DeepSpeed values by JSON path, and training values by key.

    What accelerate's questionnaire answers owns its DeepSpeed values: what ``deepspeed`` says of them does not hold.

    Args:
        accelerate: the questionnaire's file as an object.
        deepspeed: by JSON path.
        training: by key.
        deepspeed_extra: nested as in DeepSpeed's JSON; what it says holds.

    Returns:
        Settings, with defaults where a value was faulty, and every fault of type and bounds, and what is saved but
        not launched.
    """
    launch, owned, problems = read_accelerate(accelerate)
    deepspeed_settings, found = read_deepspeed({**deepspeed, **owned}, deepspeed_extra)
    problems += found
    training_settings, found = read_training(training)
    problems += found
    return Settings(launch, deepspeed_settings, training_settings), problems
