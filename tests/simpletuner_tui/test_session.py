"""Walks over a small registry with everything that makes a walk hard."""

import pytest

from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.conditions import AllOf, Is, MoreThan, Probe
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Question, Typed
from simpletuner_tui.session import Session


def ask(name, kind, **rest) -> Question:
    return Question(name, kind, f"{name}?", "section", **rest)


def row_count(context):
    return tuple(Choice(str(row), row) for row in range(context.number("rows", 1)))


SMALL = (
    ask("name", Kind.TEXT),
    ask("branch", Kind.YES_NO, default=False),
    ask("note", Kind.NOTE, when=Is("branch", True)),
    ask("second note", Kind.NOTE, when=Is("branch", True)),
    ask("inner", Kind.INT, default=3, when=Is("branch", True)),
    ask("deeper", Kind.TEXT, when=AllOf(Is("branch", True), MoreThan("inner", 5))),
    ask("rows", Kind.INT, default=2),
    ask("row", Kind.MENU, choices=row_count, default=0),
    ask("stop", Kind.STOP, when=AllOf(Is("row", 1), Probe("strict"))),
    ask("last", Kind.FLOAT, default=0.5),
)


def start(answers=None, **probes) -> Session:
    return Session(SMALL, answers or {}, probes)


def where(session: Session) -> str | None:
    return session.current and session.current.id


def test_a_walk_forward_takes_answers_and_defaults():
    session = start()
    session.answer(Typed("me"))
    for _ in range(4):
        session.accept_default()
    assert where(session) is None
    assert session.resolved.values == {"name": "me", "branch": False, "rows": 2, "row": 0, "last": 0.5}
    assert session.answers == {"name": "me"}
    assert session.resolved.answered == {"name"}


def test_a_walk_back_passes_notes_and_keeps_answers():
    session = start({"name": "me", "branch": True})
    session.skip_to_open_question()
    assert where(session) is None
    back = []
    while session.back():
        back.append(where(session))
    assert back == ["last", "row", "rows", "inner", "branch", "name"]
    assert not session.back()
    assert where(session) == "name"
    assert session.default_text() == "me"


def test_a_note_is_passed_by_next_and_a_question_is_not():
    session = start({"name": "me", "branch": True})
    session.accept_default()
    session.next()
    assert where(session) == "branch"
    session.accept_default()
    assert where(session) == "note"
    with pytest.raises(LookupError):
        session.default_text()
    with pytest.raises(LookupError):
        session.answer(Typed("yes"))
    session.next()
    assert where(session) == "second note"
    session.next()
    assert where(session) == "inner"


def test_a_branch_that_is_left_and_entered_again_remembers_its_answers():
    session = start({"name": "me"})
    session.go_to("branch")
    session.answer(Typed("yes"))
    session.go_to("inner")
    session.answer(Typed("6"))
    assert where(session) == "deeper"
    session.answer(Typed("deep"))
    session.go_to("branch")
    session.answer(Typed("no"))
    assert where(session) == "rows"
    assert "inner" not in session.resolved.values
    assert "deeper" not in session.resolved.values
    session.back()
    session.answer(Typed("yes"))
    assert where(session) == "note"
    session.skip_to_open_question()
    assert where(session) is None
    assert session.resolved.values["inner"] == 6
    assert session.resolved.values["deeper"] == "deep"


def test_places_count_what_is_asked_as_far_as_is_known():
    session = start()
    assert session.place == (1, 5)
    session.answer(Typed("me"))
    assert session.place == (2, 5)
    session.answer(Typed("yes"))
    assert (where(session), session.place) == ("note", (3, 6))
    session.next()
    session.next()
    assert (where(session), session.place) == ("inner", (3, 6))
    session.answer(Typed("6"))
    assert (where(session), session.place) == ("deeper", (4, 7))
    session.back()
    assert session.place == (3, 7)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("", "type a number"),
        ("x", "type a number"),
        ("1.5", "must be a whole number, not 1.5"),
        ("nan", "must be a finite number"),
        ("inf", "must be a finite number"),
        ("9" * 399, "must be a finite number"),
        ("9" * 5000, "type a shorter number"),
    ],
)
def test_an_invalid_answer_changes_nothing(typed, message):
    session = start({"name": "me", "branch": True})
    session.go_to("inner")
    before = session.answers, session.resolved, session.place
    with pytest.raises(ValueError, match=message):
        session.answer(Typed(typed))
    assert (session.answers, session.resolved, session.place) == before
    assert where(session) == "inner"


def test_a_question_without_a_default_cannot_be_left():
    session = start()
    assert session.default_text() is None
    with pytest.raises(ValueError, match="an answer is needed"):
        session.accept_default()
    assert where(session) == "name"
    session.skip_to_open_question()
    assert where(session) == "name"


def test_skipping_ends_at_the_next_question_that_is_open():
    session = start({"name": "me", "branch": True, "inner": 6})
    session.skip_to_open_question()
    assert where(session) == "deeper"
    session.answer(Typed("deep"))
    session.skip_to_open_question()
    assert where(session) is None


def test_skipping_ends_at_an_answer_that_is_no_longer_one():
    session = start({"name": "me", "rows": 3, "row": 2})
    session.go_to("rows")
    session.answer(Typed("2"))
    session.skip_to_open_question()
    assert where(session) == "row"
    assert session.default_text() is None, "what Enter would refuse is not offered"
    with pytest.raises(ValueError, match="an answer is needed"):
        session.accept_default()
    session.answer(Typed("0"))
    assert session.default_text() == "0.5"


def test_a_stop_ends_the_walk_until_one_goes_back():
    session = start({"name": "me"}, strict=True)
    session.go_to("row")
    session.answer(Typed("1"))
    assert where(session) == "stop"
    assert session.resolved.asked[-1].id == "stop"
    assert session.place == (5, 4)
    session.next()
    session.skip_to_open_question()
    assert where(session) == "stop"
    assert session.back()
    session.answer(Typed("0"))
    assert where(session) == "last"


def test_a_stop_waits_for_its_probe():
    session = start({"name": "me", "row": 1}, strict=False)
    session.skip_to_open_question()
    assert where(session) is None


def test_a_row_is_called_by_label_or_number_and_numbers_by_themselves_only():
    named = ask("q", Kind.MENU, choices=(Choice("One thing ", "a"), Choice("Another", "b")))
    numbers = ask("q", Kind.MENU, choices=tuple(Choice(str(stage), stage) for stage in range(4)))
    indexed = ask("q", Kind.MENU, choices=(Choice("first", 0), Choice("second", 1)))
    context = start().resolved.context
    assert [indexed.parse(typed, context) for typed in ("1", "2", "first")] == [0, 1, 0]
    assert [named.parse(typed, context) for typed in ("1", "2", " one THING ", "b")] == ["a", "b", "a", "b"]
    assert named.validate("One thing ", context) == "a"
    assert [numbers.parse(typed, context) for typed in ("0", "1", " 3 ")] == [0, 1, 3]
    with pytest.raises(ValueError, match=r"^type one of 0, 1, 2, 3$"):
        numbers.parse("4", context)
    for typed in ("0", "3", "-1", "¹", ""):
        with pytest.raises(ValueError, match="type a number from 1 to 2, or one of a, b"):
            named.parse(typed, context)


def test_a_walk_over_the_real_registry_needs_a_model_and_pictures_only():
    session = Session(REGISTRY, {}, {"deepspeed": True})
    session.skip_to_open_question()
    assert where(session) == "training.pretrained_model_name_or_path"
    session.answer(Typed("model"))
    session.skip_to_open_question()
    assert where(session) == "training.instance_data_dir"
    session.answer(Typed("pictures"))
    session.skip_to_open_question()
    assert where(session) is None


def test_the_machine_itself_is_probed_when_nothing_is_said():
    session = Session(REGISTRY, {"accelerate.use_deepspeed": True})
    assert session.resolved.stop is None  # DeepSpeed is installed where these tests run
    assert Session(REGISTRY, {"accelerate.use_deepspeed": True}, {}).resolved.stop is not None


def test_what_was_taken_on_trial_is_taken_back_and_nothing_else():
    session = start({"name": "a", "rows": 3})
    session.take({"rows": 4}, "file.yaml")
    session.take_on_trial({"rows": 9, "branch": True, "inner": 7})
    assert (session.resolved.values["rows"], session.resolved.values["inner"], session.on_trial) == (9, 7, True)
    session.take({"name": "b"})
    session.take_back()
    assert session.answers == {"name": "b", "rows": 4}
    assert session.origin(SMALL[6]) == "the answer in file.yaml"
    assert not session.on_trial
    assert where(session) == "name"
