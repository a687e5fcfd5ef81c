"""The questionary prompts: by keys in a pipe, and whole in a real terminal."""

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from harness.runs import CLI
from harness.terminal import Terminal
from harness.wizard import KINDS, ask
from simpletuner_tui.frontends import plain
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.session import Session

UP, DOWN, ENTER = "\x1b[A", "\x1b[B", "\r"
COLOUR, REMARK, END, SURE, REASON, COUNT, RATE, BETAS, ROW, WORDS, PLACE, NAMES, KEY = KINDS


def walked(registry, *keys: str) -> Session:
    """A walk that is over once these keys were typed."""
    session = Session(registry, {}, {})
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        pipe.send_text("".join(keys))
        plain.walk(session)
    return session


@pytest.mark.parametrize(
    ("question", "keys", "value"),
    [
        (COLOUR, [ENTER], "blue"),
        (COLOUR, [UP, UP, ENTER], "red"),
        (SURE, [UP, ENTER], True),
        (SURE, [ENTER], False),
        (COUNT, [ENTER], 3),
        (COUNT, ["12", ENTER], 12),
        (RATE, ["1e-5", ENTER], 1e-5),
        (BETAS, ["1, 2", ENTER], [1.0, 2.0]),
        (WORDS, ["a ü", ENTER], "a ü"),
        (PLACE, ["./here", ENTER], "./here"),
        (KEY, ["hush", ENTER], "hush"),
        (NAMES, [ENTER], []),
        (NAMES, ["one", ENTER, "y", "two", ENTER, "n"], ["one", "two"]),
    ],
    ids=lambda given: given.id if hasattr(given, "id") else None,
)
def test_every_kind_is_answered_and_enter_takes_the_default(question, keys, value):
    assert walked((question,), *keys).resolved.values == {question.id: value}


def test_back_leads_to_the_question_before_from_a_line_and_from_a_menu():
    session = walked((COUNT, SURE, RATE), "7", ENTER, DOWN, ENTER, "8", ENTER, ENTER, "back", ENTER, UP, ENTER, ENTER)
    assert session.resolved.values == {COUNT.id: 8, SURE.id: True, RATE.id: 0.5}


def test_back_at_the_first_question_and_help_ask_it_again():
    assert walked((COUNT,), "back", ENTER, "?", ENTER, "4", ENTER).answers == {COUNT.id: 4}


def test_an_error_keeps_the_prompt_and_what_was_typed():
    backspace = "\x7f"
    assert walked((COUNT,), "1x", ENTER, backspace, "2", ENTER).answers == {COUNT.id: 12}
    assert walked((PLACE,), ENTER, "x", ENTER).answers == {PLACE.id: "x"}


def test_what_only_the_whole_list_tells_is_said_and_asked_again():
    def two(answer, context):
        if len(answer) < 2:
            raise ValueError("two are needed")

    names = ask("names", Kind.REPEAT, more="Another?", check=two)
    session = walked((names,), "one", ENTER, "n", "one", ENTER, "y", "two", ENTER, "n")
    assert session.answers == {names.id: ["one", "two"]}


def test_a_stop_goes_back():
    session = walked((COLOUR, END), DOWN, ENTER, " ", UP, ENTER)
    assert session.answers == {COLOUR.id: "blue"}


@pytest.mark.parametrize(("key", "error"), [("\x03", KeyboardInterrupt), ("\x04", EOFError)])
def test_leaving_is_an_error_and_no_answer(key, error):
    with pytest.raises(error):
        walked((COUNT, RATE), "7", ENTER, key)


@pytest.fixture
def terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    opened = Terminal(CLI, "--plain", cwd=tmp_path / "here", TERM="xterm-256color", PROMPT_TOOLKIT_NO_CPR="1")
    opened.read_until("Start anew")
    opened.type(ENTER)
    yield opened
    opened.close()


def test_ctrl_c_cancels_cleanly_and_nothing_is_written(terminal, tmp_path):
    terminal.read_until("Which SDXL model")
    terminal.type("./m\r")
    terminal.read_until("2/")
    terminal.interrupt()
    assert terminal.wait() == 130
    assert "cancelled; nothing was started" in terminal.seen
    assert "Traceback" not in terminal.seen
    assert list((tmp_path / "here").iterdir()) == []


def test_the_end_of_the_input_is_told_and_no_defect(terminal):
    terminal.read_until("Which SDXL model")
    terminal.type("\x04")
    assert terminal.wait() == 2
    assert "the input ended before the last question was answered" in terminal.seen
    assert "Traceback" not in terminal.seen


def test_an_error_is_shown_while_typing(terminal, tmp_path):
    terminal.read_until("Which SDXL model")
    terminal.type("\r")
    terminal.read_until("an answer is needed here")
    terminal.type("./m\rback\r")
    terminal.read_until("[./m]")
    terminal.interrupt()
    assert terminal.wait() == 130
