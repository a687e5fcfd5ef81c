"""A registry of questions met with answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from simpletuner_tui.questions.conditions import Answer, Context
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question


@dataclass(frozen=True, slots=True)
class Resolved:
    """A registry met with answers: what is asked, and what holds."""

    asked: tuple[Question, ...]
    """In order; ends with the stop, if one was met."""
    values: Mapping[str, Answer]
    """By id, for every question asked that has an answer or a default."""
    answered: frozenset[str]
    """Ids whose value was given and is no default."""
    faults: Mapping[str, str] = field(default_factory=dict)
    """By id: what is wrong with the answer given, or that one is missing."""
    probes: Mapping[str, bool] = field(default_factory=dict)

    @property
    def context(self) -> Context:
        """For texts, choices and defaults."""
        return Context(self.values, self.probes, self.answered)

    @property
    def stop(self) -> Question | None:
        """Where accelerate refuses to go on."""
        return next((question for question in self.asked if question.kind is Kind.STOP), None)


def resolve(
    registry: Sequence[Question], answers: Mapping[str, object], probes: Mapping[str, bool] | None = None
) -> Resolved:
    """Walks a registry in order: an answer counts while its question is asked, a default where there is none.

    Answers of questions that are not asked are left alone: a person who goes back and forth finds them again.
    """
    values: dict[str, Answer] = {}
    asked: list[Question] = []
    faults: dict[str, str] = {}
    answered = set()
    context = Context(values, probes or {}, answers.keys())  # it sees values as they come
    for question in registry:
        if question.when is not None and not question.when.holds(context):
            continue
        if question.if_answered and question.id not in answers:
            continue
        asked.append(question)
        if question.kind is Kind.STOP:
            break
        if not question.asks:
            continue
        default = question.default_in(context)
        if question.id in answers:
            answered.add(question.id)
            try:
                values[question.id] = question.accept(answers[question.id], context)
                continue
            except ValueError as error:
                faults[question.id] = str(error)
        elif default is None:
            faults[question.id] = "has no answer and no default"
        if default is not None:
            values[question.id] = default
    return Resolved(tuple(asked), values, frozenset(answered), faults, probes or {})
