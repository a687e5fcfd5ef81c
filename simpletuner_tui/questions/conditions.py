"""When a question is asked: small conditions over earlier answers, as data, so that they print."""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Protocol

Answer = str | int | float | bool | list[Any] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Context:
    """What a condition, a default or a label may depend on."""

    values: Mapping[str, Answer]
    """Answers by id, and defaults of questions not answered; only of questions that are asked."""
    probes: Mapping[str, bool] = field(default_factory=dict)
    """What was found out about this machine."""
    given: Set[str] = frozenset()
    """Ids that have an answer which is no default, later ones too, whether they are asked or not."""

    def number(self, question: str, otherwise: int) -> int:
        """An earlier whole-number answer."""
        value = self.values.get(question)
        return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


class Condition(Protocol):
    """Decides from earlier answers and probes."""

    def holds(self, context: Context) -> bool:
        """Whether it holds."""

    def to_json(self) -> Any:
        """As the printed registry shows it."""


@dataclass(frozen=True, slots=True)
class Is:
    """An earlier question was answered with one of these values."""

    question: str
    values: tuple[Answer, ...]

    def __init__(self, question: str, *values: Answer) -> None:
        object.__setattr__(self, "question", question)
        object.__setattr__(self, "values", values)

    def holds(self, context: Context) -> bool:
        """Whether it was; False when it was not asked."""
        return self.question in context.values and context.values[self.question] in self.values

    def to_json(self) -> Any:
        """The question and its values."""
        return {"question": self.question, "is": list(self.values)}


@dataclass(frozen=True, slots=True)
class MoreThan:
    """An earlier number is larger than this."""

    question: str
    number: float

    def holds(self, context: Context) -> bool:
        """Whether it is; False when it was not asked."""
        value = context.values.get(self.question)
        return isinstance(value, int | float) and value > self.number

    def to_json(self) -> Any:
        """The question and the number."""
        return {"question": self.question, "more than": self.number}


@dataclass(frozen=True, slots=True)
class Probe:
    """Something was found on this machine."""

    name: str

    def holds(self, context: Context) -> bool:
        """Whether it was found."""
        return context.probes.get(self.name, False)

    def to_json(self) -> Any:
        """The probe's name."""
        return {"probe": self.name}


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    condition: Condition

    def holds(self, context: Context) -> bool:
        """Whether the condition does not."""
        return not self.condition.holds(context)

    def to_json(self) -> Any:
        """The condition, negated."""
        return {"not": self.condition.to_json()}


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every condition holds."""

    conditions: tuple[Condition, ...]

    def __init__(self, *conditions: Condition) -> None:
        object.__setattr__(self, "conditions", conditions)

    def holds(self, context: Context) -> bool:
        """Whether all do."""
        return all(condition.holds(context) for condition in self.conditions)

    def to_json(self) -> Any:
        """The conditions."""
        return {"all": [condition.to_json() for condition in self.conditions]}


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one condition holds."""

    conditions: tuple[Condition, ...]

    def __init__(self, *conditions: Condition) -> None:
        object.__setattr__(self, "conditions", conditions)

    def holds(self, context: Context) -> bool:
        """Whether any does."""
        return any(condition.holds(context) for condition in self.conditions)

    def to_json(self) -> Any:
        """The conditions."""
        return {"any": [condition.to_json() for condition in self.conditions]}


def answers_named(condition: Condition | None) -> Iterator[Is]:
    """The answers that a condition wants, or wants one of; not those it rules out."""
    if isinstance(condition, Is):
        yield condition
    elif isinstance(condition, AllOf | AnyOf):
        for part in condition.conditions:
            yield from answers_named(part)


def depends_on_machine(condition: Condition | None) -> bool:
    """Whether a probe has a say in it: on another machine it may hold otherwise."""
    if isinstance(condition, Not):
        return depends_on_machine(condition.condition)
    if isinstance(condition, AllOf | AnyOf):
        return any(depends_on_machine(part) for part in condition.conditions)
    return isinstance(condition, Probe)
