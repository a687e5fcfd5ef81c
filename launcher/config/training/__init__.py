"""What ``training.json`` holds, topic by topic.

A topic is one dataclass in a file of its own; :data:`TOPICS` lists them, and :class:`TrainingSettings` is their
union. Keys that SimpleTuner's users know keep their names. Paths are absolute once a plan is made.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launcher.config.setting import Problem, Setting, declarations, read_topic
from launcher.config.training.adapter import AdapterSettings
from launcher.config.training.captions import CaptionSettings
from launcher.config.training.checkpoints import CheckpointSettings
from launcher.config.training.data import DataSettings
from launcher.config.training.ema import EmaSettings
from launcher.config.training.export import ExportSettings
from launcher.config.training.model import ModelSettings
from launcher.config.training.notification import NotificationSettings
from launcher.config.training.objective import ObjectiveSettings
from launcher.config.training.optimization import OptimizationSettings
from launcher.config.training.preparation import PreparationSettings
from launcher.config.training.runtime import RuntimeSettings
from launcher.config.training.sources import SourcesSettings
from launcher.config.training.tracking import TrackingSettings
from launcher.config.training.validation import ValidationSettings

__all__ = [
    "TOPICS",
    "AdapterSettings",
    "CaptionSettings",
    "CheckpointSettings",
    "DataSettings",
    "EmaSettings",
    "ExportSettings",
    "ModelSettings",
    "NotificationSettings",
    "ObjectiveSettings",
    "OptimizationSettings",
    "PreparationSettings",
    "RuntimeSettings",
    "SourcesSettings",
    "TrackingSettings",
    "TrainingSettings",
    "ValidationSettings",
    "read_training",
    "training_declarations",
]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Everything that is neither accelerate's nor DeepSpeed's."""

    model: ModelSettings = field(default_factory=ModelSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    sources: SourcesSettings = field(default_factory=SourcesSettings)
    data: DataSettings = field(default_factory=DataSettings)
    captions: CaptionSettings = field(default_factory=CaptionSettings)
    preparation: PreparationSettings = field(default_factory=PreparationSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    optimization: OptimizationSettings = field(default_factory=OptimizationSettings)
    ema: EmaSettings = field(default_factory=EmaSettings)
    checkpoints: CheckpointSettings = field(default_factory=CheckpointSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    export: ExportSettings = field(default_factory=ExportSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    notification: NotificationSettings = field(default_factory=NotificationSettings)
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)

    def to_json(self) -> dict[str, Any]:
        """One flat object, keys in the order of the topics."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for topic in dataclasses.fields(self)
            for key, value in dataclasses.asdict(getattr(self, topic.name)).items()
        }


TOPICS: dict[str, type] = {
    "model": ModelSettings,
    "adapter": AdapterSettings,
    "sources": SourcesSettings,
    "data": DataSettings,
    "captions": CaptionSettings,
    "preparation": PreparationSettings,
    "objective": ObjectiveSettings,
    "optimization": OptimizationSettings,
    "ema": EmaSettings,
    "checkpoints": CheckpointSettings,
    "validation": ValidationSettings,
    "export": ExportSettings,
    "tracking": TrackingSettings,
    "notification": NotificationSettings,
    "runtime": RuntimeSettings,
}
"""Topic dataclasses by their name in :class:`TrainingSettings`."""


def training_declarations() -> Iterator[tuple[str, Setting]]:
    """Every setting of ``training.json`` with its topic's name."""
    for name, topic in TOPICS.items():
        for declared in declarations(topic):
            yield name, declared


def read_training(values: Mapping[str, object]) -> tuple[TrainingSettings, list[Problem]]:
    """Settings from a flat object as ``training.json`` holds it; faults are listed, not raised."""
    topics: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, topic in TOPICS.items():
        parsed, found = read_topic(topic, values, "training")
        topics[name] = topic(**parsed)
        problems += found
    known = {declared.key for _, declared in training_declarations()}
    problems += [Problem(f"training.{key}", "is not a setting", rule="unknown") for key in values if key not in known]
    return TrainingSettings(**topics), problems
