"""The wizard in a real terminal: what is drawn, what it costs on the wire, and every way a terminal can end."""

import json
import shutil
import signal
import time

import pytest

from harness.runs import CLI, cli, end_run, stand_in_run, wait_for
from harness.terminal import Terminal
from harness.tmux import Tmux
from launcher.runs.spawn import launch
from launcher.runs.state import status

MODEL = "training.pretrained_model_name_or_path"
FIRST = "Which SDXL model should be fine-tuned?"
ANEW = "\r"
"""Enter: the first row, where there is no draft."""
TEXTUAL = {"TERM": "xterm-256color", "COLORTERM": ""}


@pytest.fixture
def terminal(folder):
    """Opens the wizard in a terminal of its own."""
    opened = []

    def open_terminal(*arguments: str, **options) -> Terminal:
        opened.append(Terminal(CLI, *arguments, cwd=folder, **{**TEXTUAL, **options}))
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def draft(folder) -> dict:
    path = folder / "state/simpletuner-tui/draft.json"
    return json.loads(path.read_text())["answers"] if path.exists() else {}


def begun(terminal: Terminal) -> Terminal:
    """It starts anew; the first question is there."""
    terminal.read_until("Start anew")
    terminal.type(ANEW)
    terminal.read_until(FIRST)
    return terminal


def answered(folder, terminal: Terminal) -> Terminal:
    """A first answer is given and kept."""
    begun(terminal)
    terminal.type("./m\r")
    wait_for(lambda: draft(folder) == {MODEL: "./m"})
    return terminal


def test_a_window_may_change_its_size(folder, terminal):
    window = answered(folder, terminal())
    window.forget()
    window.resize(50, 15)
    window.read_until("This window is too small: 60 columns")
    window.forget()
    window.resize(120, 40)
    window.read_until("Cost (estimate)")
    window.type("\x11")
    window.read_until("Leave without saving?")
    window.type("y")
    assert window.wait() == 0


def test_a_wide_window_is_not_drawn_narrow_first(terminal):
    window = begun(terminal(columns=120, rows=40))
    window.quiet(1.0)
    assert window.seen.count(FIRST) <= 3, "each time is a whole screen"


@pytest.mark.parametrize("key", ["\x03", "\x11"], ids=["ctrl-c", "ctrl-q"])
def test_leaving_asks_and_gives_the_terminal_back(folder, terminal, key):
    window = answered(folder, terminal())
    window.type(key)
    window.read_until("Leave without saving?")
    window.type("y")
    assert window.wait() == 0
    assert window.seen.rstrip().endswith("\x1b[?1049l") or "\x1b[?1049l" in window.seen[-200:]
    assert not (folder / "runs").exists()


def test_a_dropped_line_keeps_the_draft_and_it_is_offered_again(folder, terminal):
    window = answered(folder, terminal())
    window.hang_up()
    assert window.process.wait(30) == 129
    assert draft(folder) == {MODEL: "./m"}
    again = terminal()
    again.read_until("Continue the draft")
    again.type("\r")
    again.read_until("2 of ")


def test_who_comes_back_after_a_dropped_line_is_one_key_from_the_run(folder, terminal):
    run = stand_in_run(folder / "runs/cats", "long")
    try:
        launch(run)
        window = terminal()
        window.read_until("cats")
        window.quiet(1.0)
        window.forget()
        window.type("\r")
        window.read_until("Pictures")  # a key of the dashboard
        window.type("q")
        window.read_until("This machine")
        window.type("q")
        assert window.wait() == 0
        assert status(run).live
    finally:
        end_run(run)


def test_the_request_to_end_is_followed_and_the_draft_kept(folder, terminal):
    window = answered(folder, terminal())
    window.process.send_signal(signal.SIGTERM)
    assert window.wait(30) == 130
    assert draft(folder) == {MODEL: "./m"}
    assert "Traceback" not in window.seen


def test_bytes_that_are_no_text_are_told_apart_and_harmless(folder, terminal):
    window = begun(terminal())
    window.type_bytes(b"\xff\xfe\xc3\x00\xed\xa0\x80abc")
    window.read_until("abc")
    window.type("\r")
    window.read_until(" 2 of ")
    window.type("\x11")
    window.read_until("Leave without saving?")
    window.type("y")
    assert window.wait(30) == 0
    assert "\N{REPLACEMENT CHARACTER}" in draft(folder)[MODEL]
    assert "Traceback" not in window.seen


def test_nothing_is_drawn_while_nobody_types(folder, terminal):
    window = terminal()
    window.read_until("Start anew")
    window.quiet(1.0)
    window.forget()
    window.read_for(3.0)
    assert len(window.seen) < 400, "at most memory that changed"
    window.type(ANEW)
    window.read_until(FIRST)
    window.quiet(1.0)
    window.forget()
    window.read_for(5.0)
    assert len(window.seen) < 200, "at most a GPU's memory that changed"


def test_a_terminal_that_cannot_be_drawn_on_gets_lines_and_one_notice(terminal):
    window = terminal(TERM="dumb")
    window.read_until("1. Start anew")
    window.type("\r")
    window.read_until(FIRST)
    assert window.seen.count("TERM=dumb") == 1
    assert "\x1b" not in window.seen
    window.type("quit\r")
    assert window.wait() == 0


@pytest.mark.parametrize("how", [{"ACCESSIBLE": "1"}, ["--accessible"]], ids=["environment", "option"])
def test_lines_can_be_asked_for_on_any_terminal(terminal, how):
    window = terminal(*(how if isinstance(how, list) else ()), **(how if isinstance(how, dict) else {}))
    window.read_until("> ")
    assert "\x1b" not in window.seen
    window.interrupt()
    assert window.wait() == 130


def test_a_pipe_is_answered_in_lines(folder):
    done = cli(cwd=folder, stdin="quit\n", TERM="xterm")
    assert (done.returncode, FIRST in done.stdout) == (0, True)
    done = cli(cwd=folder, TERM="xterm")
    assert done.returncode == 2
    assert "--replay answers.json" in done.stderr
    assert "--accessible" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_a_terminal_that_only_reads_gets_lines(folder, terminal):
    shell = Terminal("sh", "-c", f"{CLI} > out.txt", cwd=folder, **TEXTUAL)
    try:
        shell.type("1\rquit\r")
        assert shell.wait() == 0
        assert FIRST in (folder / "out.txt").read_text()
    finally:
        shell.close()


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_it_draws_and_resizes_in_tmux(folder):
    window = Tmux(CLI, cwd=folder)
    try:
        window.read_until("Start anew")
        window.press("Enter")
        screen = window.read_until(FIRST)
        assert len(screen.splitlines()) == 24
        window.resize(50, 15)
        assert "Which SDXL" not in window.read_until("This window is too small")
        window.resize(120, 40)
        window.read_until("Cost (estimate)")
        window.type("./m")
        window.read_until("./m")
        window.press("Enter")
        window.read_until(" 2 of ")
        window.press("F2")
        window.read_until("Enter keeps your answer: ./m")
    finally:
        window.close()
    wait_for(lambda: draft(folder) == {MODEL: "./m"})


def test_a_step_costs_little_on_the_wire(folder, terminal):
    window = answered(folder, terminal())
    window.quiet(1.5)  # on busy cores the panes come late
    window.forget()
    begun = time.monotonic()
    window.type("./p\r")
    window.read_until(" 3 of ")
    window.quiet(0.5)
    assert len(window.seen.encode()) < 9_000
    assert time.monotonic() - begun < 20
