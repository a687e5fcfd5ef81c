"""What the tables of accelerate's questions are written with: shorthands, shared conditions, checks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from simpletuner_tui.questions.conditions import AllOf, Answer, AnyOf, Condition, Context, Is, Not, Probe
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Question, Sets

PREFIX = "accelerate."
Row = Choice | str | int


@dataclass(frozen=True, slots=True)
class Section:
    """Asks under one heading. What an answer sets is a path in the file, or :class:`Sets`."""

    title: str

    def ask(
        self, name: str, kind: Kind, text: str | Callable[[Context], str], *sets: str | Sets, **rest: Any
    ) -> Question:
        """A question of any kind."""
        targets = tuple(Sets(target) if isinstance(target, str) else target for target in sets)
        return Question(PREFIX + name, kind, text, self.title, sets=targets, **rest)

    def yes_no(self, name: str, text: str, *sets: str | Sets, default: bool = False, **rest: Any) -> Question:
        """Yes or no; no unless said otherwise."""
        return self.ask(name, Kind.YES_NO, text, *sets, default=default, **rest)

    def menu(self, name: str, text: str, rows: Iterable[Row], *sets: str | Sets, **rest: Any) -> Question:
        """One of some rows; the first unless a default is given."""
        choices = tuple(row if isinstance(row, Choice) else Choice(str(row), row) for row in rows)
        return self.ask(name, Kind.MENU, text, *sets, choices=choices, **{"default": choices[0].value, **rest})

    def number(self, name: str, text: str | Callable[[Context], str], *sets: str | Sets, **rest: Any) -> Question:
        """A whole number."""
        return self.ask(name, Kind.INT, text, *sets, **rest)

    def text(self, name: str, text: str | Callable[[Context], str], *sets: str | Sets, **rest: Any) -> Question:
        """A line of text."""
        return self.ask(name, Kind.TEXT, text, *sets, **rest)

    def path(self, name: str, text: str, *sets: str | Sets, **rest: Any) -> Question:
        """A file or a folder."""
        return self.ask(name, Kind.PATH, text, *sets, **rest)

    def note(self, name: str, text: str, when: Condition) -> Question:
        """Something said on the way."""
        return self.ask(name, Kind.NOTE, text, when=when)

    def stop(self, name: str, text: str, *conditions: Condition, reason: str = "") -> Question:
        """Where accelerate goes no further, in its words; ``reason`` says it in plainer ones."""
        return self.ask(name, Kind.STOP, text, when=AllOf(*conditions), help=reason)


def answer(name: str, *values: Answer) -> Is:
    """One of accelerate's questions was answered so."""
    return Is(PREFIX + name, *values)


# Shared conditions. A question that is not asked has no answer, so none of them holds for SageMaker by accident.

THIS_MACHINE, AWS = answer("environment", "LOCAL_MACHINE"), answer("environment", "AMAZON_SAGEMAKER")

ACCELERATORS = (
    *("MULTI_XPU", "MULTI_HPU", "MULTI_GPU", "MULTI_NPU", "MULTI_MLU", "MULTI_SDAA", "MULTI_MUSA", "MULTI_NEURON"),
)
"""Machines with several devices of a kind."""

MULTI_CPU, TPU = answer("machine", "MULTI_CPU"), answer("machine", "XLA")
MULTI_GPU, MULTI_NEURON = answer("machine", "MULTI_GPU"), answer("machine", "MULTI_NEURON")
MULTI_DEVICE = answer("machine", *ACCELERATORS)
MULTI = answer("machine", "MULTI_CPU", *ACCELERATORS)
ON_CPU = AnyOf(answer("use_cpu", True), MULTI_CPU)
ON_MPS = AllOf(Probe("mps"), Not(ON_CPU))

DYNAMO = AnyOf(answer("use_dynamo", True), answer("sm_use_dynamo", True))
DEEPSPEED, FSDP, MEGATRON = answer("use_deepspeed", True), answer("use_fsdp", True), answer("use_megatron", True)
INLINE = AllOf(DEEPSPEED, answer("ds_use_json", False))
DS_FILE = AllOf(DEEPSPEED, answer("ds_use_json", True))
"""A file says everything about DeepSpeed."""
TAKEN_OVER = AnyOf(DEEPSPEED, FSDP, MEGATRON)
"""Each of them takes the machine's place in the file, whatever it was."""
PLAIN = AllOf(answer("machine", "NO", "MULTI_GPU", "MULTI_CPU"), Not(TAKEN_OVER))
"""Launched from here without DeepSpeed."""


# Checks: what accelerate saves and then fails on, or silently ignores.


def at_least(least: int) -> Callable[[Answer, Context], None]:
    """Refuses numbers below a bound."""

    def check(given: Answer, _: Context) -> None:
        if isinstance(given, int | float) and given < least:
            raise ValueError("must not be negative" if least == 0 else f"must be at least {least}")

    return check


def needed(given: Answer, _: Context) -> None:
    """Refuses an answer of nothing but spaces."""
    if not str(given).strip():
        raise ValueError("an answer is needed here")
