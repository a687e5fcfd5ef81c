"""Presets: partial answers for a budget, which come with the program; a walk or a file of answers goes on from one.

Each is a file of answers, ``NAME.json``, as ``--replay`` takes it. ``presets.json`` says in which order they are
offered and what each is for, with its figures: ``predicted`` by the estimate (``benchmarks/presets.py`` writes them),
and ``measured`` by a run of the true SDXL, null until there was one.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from launcher.errors import InvalidInputError
from launcher.estimate import Estimate
from launcher.recommend.budget import Budget
from simpletuner_tui.answers import read_answers
from simpletuner_tui.text import size

FOLDER = Path(__file__).parent
INDEX = FOLDER / "presets.json"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a preset takes."""

    training_mib: int
    """Of each GPU while it trains, as nvidia-smi prints it."""
    least_mib: int
    """Of each GPU, below which it fails."""
    host_mib: int
    disk_mib: int
    step_seconds: float | None
    """None where it is not known."""
    on: str = ""
    """Of a measurement: the machine, and when."""

    @classmethod
    def of(cls, cost: Estimate) -> "Figures":
        """What an estimate says."""
        training = cost.phase("step").process_mib
        return cls(training, cost.gpu_least_mib, cost.host_mib, cost.disk_mib, cost.step_seconds)

    def __str__(self) -> str:
        step = f", {self.step_seconds:.2g} s a step" if self.step_seconds else ""
        how = f"measured, {self.on}" if self.on else "predicted"
        return (
            f"{size(self.training_mib)} of each GPU while training, {size(self.least_mib)} at the least; "
            f"{size(self.host_mib)} of host RAM, {size(self.disk_mib)} of disk{step} ({how})"
        )


@dataclass(frozen=True, slots=True)
class Preset:
    """One of them."""

    name: str
    description: str
    budget: Budget
    gpus: int
    remarks: tuple[str, ...]
    """What has to be known before it is taken, a sentence each."""
    answers: Mapping[str, object]
    predicted: Figures
    measured: Figures | None

    @property
    def path(self) -> Path:
        """Its file of answers."""
        return FOLDER / f"{self.name}.json"

    @property
    def source(self) -> str:
        """What an answer of its is said to stand in."""
        return f"preset {self.name}"

    @property
    def figures(self) -> Figures:
        """What it takes: measured, where it was."""
        return self.measured or self.predicted

    def to_json(self) -> dict[str, Any]:
        """For ``presets --json``."""
        about = next(each for each in _index() if each["name"] == self.name)
        return {**about, "answers": dict(self.answers)}


@lru_cache(maxsize=1)
def presets() -> tuple[Preset, ...]:
    """All of them, in the order they are offered."""
    return tuple(_preset(about) for about in _index())


def find_preset(name: str) -> Preset:
    """One by its name.

    Raises:
        InvalidInputError: there is none of that name.
    """
    by_name = {preset.name: preset for preset in presets()}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(by_name)}"
    raise InvalidInputError(f"there is no preset {name}; {hint}")


def _index() -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(INDEX.read_bytes())["presets"]
    return content


def _preset(about: Mapping[str, Any]) -> Preset:
    path = FOLDER / f"{about['name']}.json"
    return Preset(
        name=about["name"],
        description=about["description"],
        budget=Budget(**about["budget"]),
        gpus=about["gpus"],
        remarks=tuple(about["remarks"]),
        answers=read_answers(path.read_bytes(), FOLDER, path.name).values,
        predicted=Figures(**about["predicted"]),
        measured=Figures(**about["measured"]) if about["measured"] else None,
    )
