"""The line front end: numbered lines out, lines in, no terminal."""

import io

import pytest

from launcher.errors import InvalidInputError
from simpletuner_tui.frontends.accessible import Lines, QuitWalkError, walk
from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Question
from simpletuner_tui.session import Session

COLOURS = (Choice("deep red", "red"), Choice("blue", "blue"))
STAGES = tuple(Choice(str(stage), stage) for stage in range(4))


def ask(name, kind, section="Colours", **rest) -> Question:
    return Question(name, kind, f"Which {name}? ", section, **rest)


SMALL = (
    ask("count", Kind.INT, default=2, help="How many there are."),
    ask("colour", Kind.MENU, choices=COLOURS, default="red"),
    ask("remark", Kind.NOTE, when=Is("colour", "blue")),
    ask("stage", Kind.MENU, "Stages", choices=STAGES, default=2),
    ask("stop", Kind.STOP, "Stages", when=Is("stage", 0)),
    ask("name", Kind.TEXT, "Names"),
    ask("words", Kind.REPEAT, "Names", more="Another?", default=[]),
)


def run(*typed: str) -> tuple[Session, str]:
    """Walks with these lines; the session and everything that was said."""
    session, said = Session(SMALL, {}, {}), io.StringIO()
    walk(Lines(io.StringIO("".join(f"{line}\n" for line in typed)), said), session)
    return session, said.getvalue()


def values(*typed: str) -> dict:
    return dict(run(*typed)[0].resolved.values)


def test_enter_keeps_what_is_in_brackets():
    session, said = run("", "", "", "me", "")
    assert session.resolved.values == {"count": 2, "colour": "red", "stage": 2, "name": "me", "words": []}
    assert "1/5  Which count?\n[2] > " in said
    assert "2/5  Which colour?\n    1. deep red\n    2. blue\n[deep red] > " in said
    assert "4/5  Which name?\n> me" in said
    assert "[none] > " in said


def test_rows_are_chosen_by_number_label_or_value():
    assert values("", "2", "", "me", "")["colour"] == "blue"
    assert values("", "Deep Red", "", "me", "")["colour"] == "red"
    assert values("", "blue", "", "me", "")["colour"] == "blue"


def test_rows_that_are_numbers_are_not_numbered_again():
    session, said = run("", "", "3", "me", "")
    assert session.resolved.values["stage"] == 3
    assert "Which stage?\n    0 (Which stop?)\n    1\n    2\n    3\n[2] > " in said


def test_sections_are_announced_once_each():
    said = run("", "", "", "me", "")[1]
    assert [said.count(f"{name}\n{'-' * len(name)}\n") for name in ("Colours", "Stages", "Names")] == [1, 1, 1]


def test_a_note_is_said_and_nothing_is_asked():
    said = run("", "blue", "", "me", "")[1]
    assert "Which remark?\n" in said
    assert "Which remark?" not in run("", "", "", "me", "")[1]


def test_back_leads_to_the_question_before_and_not_to_a_note():
    session, said = run("back", "5", "blue", "back", "1", "back", "back", "7", "", "", "me", "")
    assert "This is the first question." in said
    assert session.resolved.values["count"] == 7
    assert session.resolved.values["colour"] == "red"


def test_rest_keeps_everything_up_to_the_next_open_question():
    session, said = run("rest", "rest", "me", "REST")
    assert session.resolved.values == {"count": 2, "colour": "red", "stage": 2, "name": "me", "words": []}
    assert "Which colour?" not in said
    assert "That does not do: an answer is needed here." in said


def test_a_question_mark_helps_and_asks_again():
    session, said = run("?", "", "?", "", "", "me", "")
    assert "How many there are." in said
    assert "There is no more to say about this one." in said
    assert session.current is None


def test_an_invalid_answer_is_explained_and_asked_again():
    session, said = run("many", "1.5", "3", "green", "4", "", "", "me", "")
    assert "That does not do: type a number, such as 8 or 1e-5." in said
    assert "That does not do: must be a whole number, not 1.5." in said
    assert said.count("That does not do: type a number from 1 to 2, or one of red, blue.") == 2
    assert session.resolved.values["count"] == 3


def test_a_repeat_question_goes_on_until_no_more_is_wanted():
    assert values("", "", "", "me", "one", "yes", "two words", "Y", "three", "no")["words"] == [
        "one",
        "two words",
        "three",
    ]
    assert values("", "", "", "me", "one", "")["words"] == ["one"]


@pytest.mark.parametrize("before", [(), ("", ""), ("", "", "", "me", "one")])
def test_quit_leaves_at_any_place(before):
    with pytest.raises(QuitWalkError):
        run(*before, " Quit ")


def test_a_stop_waits_for_back_or_quit():
    session, said = run("", "", "0", "", "on", "back", "1", "me", "")
    assert said.count("It does not go on from here; back or quit: ") == 3
    assert session.resolved.values["stage"] == 1
    with pytest.raises(QuitWalkError):
        run("", "", "0", "quit")


def test_input_that_ends_early_says_that_nothing_was_started():
    with pytest.raises(InvalidInputError, match="ended before the last question was answered; nothing was started"):
        run("", "")


def test_no_input_at_all_names_the_ways_without_a_terminal():
    with pytest.raises(InvalidInputError, match=r"--replay answers\.json.*--accessible"):
        run()


def test_the_last_line_needs_no_end():
    session = Session(SMALL[:1], {}, {})
    walk(Lines(io.StringIO("4"), io.StringIO()), session)
    assert session.resolved.values == {"count": 4}


def test_what_a_pipe_types_is_shown_and_what_a_terminal_types_is_not_shown_twice():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert "[2] > 4\n" in run("4", "", "", "me", "")[1]
    said = io.StringIO()
    walk(Lines(Terminal("4\n"), said), Session(SMALL[:1], {}, {}))
    assert said.getvalue().endswith("[2] > ")
