"""What answers so far amount to, while they are being given: the files as they grow, and the cost."""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from launcher.config.settings import Settings
from launcher.config.training import DataSettings, SourcesSettings, TrainingSettings
from launcher.data.extent import Extent, extent
from launcher.estimate import Estimate, ModelFacts, estimate, read_model_facts
from launcher.estimate.traces import UNetStep, step_of
from launcher.plan import speed_here
from simpletuner_tui.answers import read_resolved
from simpletuner_tui.questions.accelerate.file import accelerate_file, file_bytes
from simpletuner_tui.questions.resolving import Resolved

FILE_OF_NAMESPACE = {
    "accelerate": "default_config.yaml",
    "deepspeed": "deepspeed.json",
    "training": "training.json",
}
"""Which file a question's answer lands in, by the namespace of its id."""


@dataclass(frozen=True, slots=True)
class Preview:
    """Answers so far as files. What has no answer yet stands at its default."""

    files: dict[str, str]
    settings: Settings | None
    """What a run of them would cost follows from these; None where they make no run."""

    def file_of(self, question_id: str) -> tuple[str, str]:
        """Name and text of the file that a question writes to; a file that stands alone takes every answer."""
        name = FILE_OF_NAMESPACE.get(question_id.split(".", 1)[0], "default_config.yaml")
        return (name, self.files[name]) if len(self.files) > 1 else next(iter(self.files.items()))


def preview_file(resolved: Resolved, name: str) -> Preview:
    """accelerate's file as it would be written now.

    Args:
        resolved: answers so far; faulty and missing ones are left out.
        name: of the file, which says whether it is YAML or JSON.
    """
    return Preview({name: file_bytes(accelerate_file(resolved), name).decode()}, None)


def preview(resolved: Resolved, base: Path) -> Preview:
    """A run's files as they would be written now.

    Args:
        resolved: answers so far; faulty and missing ones are left out.
        base: the folder that relative paths count from.
    """
    settings = read_resolved(resolved, base).settings
    files = {
        "default_config.yaml": yaml.safe_dump(accelerate_file(resolved)),
        "deepspeed.json": json.dumps(settings.deepspeed_json(), indent=2) + "\n",
        "training.json": json.dumps(settings.training.to_json(), indent=2, ensure_ascii=False) + "\n",
    }
    return Preview(files, settings)


def cost(settings: Settings) -> Estimate:
    """What these settings cost; reads the model's headers and counts the pictures once a folder."""
    return estimate(settings, *facts_of_run(settings), speed_here(settings))


def traced_step(settings: Settings) -> UNetStep:
    """The step whose trace the GPU memory of these settings is known from."""
    return step_of(settings, _facts(settings.training.model.pretrained_model_name_or_path))


def facts_of_run(settings: Settings) -> tuple[ModelFacts, Extent]:
    """What a cost follows from besides settings; each model and each folder is read once."""
    training = settings.training
    facts = _facts(training.model.pretrained_model_name_or_path)
    return facts, _extent(training.data.instance_data_dir, training.sources.data_backend_config)


@lru_cache(maxsize=16)
def _facts(model: str) -> ModelFacts:
    return read_model_facts(model)


@lru_cache(maxsize=16)
def _extent(folder: str, sources: str) -> Extent:
    data, listed = DataSettings(instance_data_dir=folder), SourcesSettings(data_backend_config=sources)
    return extent(TrainingSettings(data=data, sources=listed))


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file, and whether the last answer brought it."""

    text: str
    changed: bool


def marked_lines(before: str, after: str) -> Sequence[Line]:
    """The lines of ``after``, with those marked that ``before`` has not."""
    lines = after.splitlines()
    matcher = difflib.SequenceMatcher(a=before.splitlines(), b=lines, autojunk=False)
    same = {j for block in matcher.get_matching_blocks() for j in range(block.b, block.b + block.size)}
    return [Line(text, number not in same) for number, text in enumerate(lines)]
