"""What an option of SimpleTuner amounts to here, and the few ways in which most are translated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simpletuner_tui.simpletuner.values import whole


@dataclass(frozen=True, slots=True)
class Said:
    """What an option amounts to here."""

    answers: Mapping[str, object]
    """By question id, or of a source by its key; empty where it says what is done anyway."""
    how: str


@dataclass(frozen=True, slots=True)
class Options:
    """All options of a file, for those that depend on each other."""

    values: Mapping[str, Any]
    """By name."""
    settings: frozenset[str]
    """Names of the training's own settings."""
    pictures: int | None = None
    """How many the data backend has; None: not known."""
    deepspeed: Mapping[str, Any] | None = None
    """DeepSpeed's configuration as it was written; None: it is not wanted. What it says holds over the options."""

    @property
    def processes(self) -> int:
        """How many processes train."""
        return _at_least_one(self.values.get("num_processes", self.values.get("training_num_processes")))

    @property
    def global_batch(self) -> int:
        """Pictures for each optimizer step."""
        said = self.deepspeed or {}
        micro = said.get("train_micro_batch_size_per_gpu", self.values.get("train_batch_size"))
        accumulation = said.get("gradient_accumulation_steps", self.values.get("gradient_accumulation_steps"))
        return _at_least_one(micro) * _at_least_one(accumulation) * self.processes


def _at_least_one(value: Any) -> int:
    try:
        return max(1, whole(value))
    except ValueError:
        return 1


Translation = Callable[[Any, Options], Said]
"""Raises ValueError with the reason where an option cannot be carried."""


def alias(name: str) -> Translation:
    """An option that is a setting under another name."""

    def translate(value: Any, options: Options) -> Said:
        if name not in options.settings:
            raise ValueError("there is no such setting here")
        return Said({f"training.{name}": value}, f"is training.{name}")

    return translate


def already(wanted: tuple[object, ...], what: str, otherwise: str) -> Translation:
    """An option that may only say what is done anyway."""

    def translate(value: Any, _: Options) -> Said:
        said = value.strip().lower() if isinstance(value, str) else value
        if any(type(said) is type(each) and said == each for each in wanted):
            return Said({}, what)
        raise ValueError(otherwise)

    return translate


def never(why: str) -> Translation:
    """An option that nothing here can say."""

    def refuse(_: Any, __: Options) -> Said:
        raise ValueError(why)

    return refuse
