"""A walk's sections as steps: done, here, faulty, ahead."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby

from simpletuner_tui.session import Session


class StepState(StrEnum):
    """How far a step is."""

    DONE = "done"
    HERE = "here"
    FAULT = "fault"
    """It was passed, and an answer in it is missing or no longer valid."""
    AHEAD = "ahead"


@dataclass(frozen=True, slots=True)
class Step:
    """Neighbouring questions of one section."""

    title: str
    first: str
    """Id of its first question that asks."""
    state: StepState
    visited: bool
    """Whether one may jump to it."""


def steps(session: Session) -> tuple[Step, ...]:
    """The steps of a walk as it is now: sections without a question that is asked have none."""
    current = session.current
    found = []
    for title, group in groupby(session.resolved.asked, key=lambda question: question.section):
        questions = list(group)
        ids = [question.id for question in questions if question.asks]
        if not ids:
            continue
        visited = session.visited.intersection(ids)
        if current in questions:
            state = StepState.HERE
        elif visited.intersection(session.resolved.faults):
            state = StepState.FAULT
        else:
            state = StepState.DONE if visited.issuperset(ids) else StepState.AHEAD
        found.append(Step(title, ids[0], state, bool(visited)))
    return tuple(found)
