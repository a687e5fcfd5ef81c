"""Sections as steps: done, here, faulty, ahead."""

from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question, Typed
from simpletuner_tui.session import Session
from simpletuner_tui.steps import StepState, steps


def ask(name: str, section: str, **rest) -> Question:
    return Question(name, Kind.INT, f"{name}?", section, **{"default": 1, **rest})


def small(answer, context):
    if answer > context.number("a", 9):
        raise ValueError("too large")


REGISTRY = (
    ask("a", "One"),
    Question("note", Kind.NOTE, "!", "One"),
    ask("b", "Two", check=small),
    ask("c", "One"),
    ask("d", "Three", when=Is("c", 2)),
)


def states(session: Session) -> list[tuple[str, str, bool]]:
    return [(step.title, str(step.state), step.visited) for step in steps(session)]


def test_neighbours_of_one_section_are_a_step_and_empty_ones_are_none():
    session = Session(REGISTRY, {}, {})
    assert states(session) == [("One", "here", False), ("Two", "ahead", False), ("One", "ahead", False)]
    assert [step.first for step in steps(session)] == ["a", "b", "c"]
    session.go_to("c")
    session.answer(2)
    assert states(session)[-1] == ("Three", "here", False)


def test_a_step_is_done_when_all_of_it_was_passed():
    session = Session(REGISTRY, {}, {})
    session.accept_default()
    assert states(session)[0] == ("One", "here", True), "a note is in the step too"
    session.next()
    assert states(session)[:2] == [("One", "done", True), ("Two", "here", False)]
    session.skip_to_open_question()
    assert {step.state for step in steps(session)} == {StepState.DONE}


def test_a_step_that_was_passed_and_does_not_do_any_more_is_faulty():
    session = Session(REGISTRY, {}, {})
    session.skip_to_open_question()
    session.go_to("a")
    session.answer(Typed("9"))
    session.go_to("b")
    session.answer(Typed("5"))
    session.go_to("a")
    session.answer(Typed("3"))
    session.go_to("c")
    assert states(session)[1] == ("Two", "fault", True)
