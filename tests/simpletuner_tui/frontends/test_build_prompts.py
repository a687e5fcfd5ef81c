"""The DeepSpeed builder as questionary prompts: by keys in a pipe, and whole in a real terminal."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_toolkit.application import create_app_session
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from prompt_toolkit.validation import ValidationError

from harness.runs import CLI
from harness.terminal import Terminal
from launcher.deepspeed.fields import FIELDS
from launcher.deepspeed.installed import TESTED
from launcher.deepspeed.run_facts import RunFacts
from launcher.errors import InvalidInputError
from simpletuner_tui.builder.editing import Editing
from simpletuner_tui.builder.model import Builder
from simpletuner_tui.builder.walk import Walk
from simpletuner_tui.frontends.build_commands import command_in
from simpletuner_tui.frontends.build_prompts import PromptsAsk, _Checked
from simpletuner_tui.frontends.building import hold

UP, DOWN, ENTER, BACKSPACE = "\x1b[A", "\x1b[B", "\r", "\x7f"
CONFIG = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}, "bf16": {"enabled": True}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def talked(*keys: str, config=CONFIG) -> Builder:
    """Holds the talk with these keys, up to ``quit`` or ``save``."""
    builder = Builder(config, RunFacts(), TESTED)
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        pipe.send_text("".join(keys))
        hold(Editing(builder, Path("deepspeed.json"), None), PromptsAsk())
    return builder


def line(text: str) -> str:
    return text + ENTER


def test_lines_and_menus_are_answered_and_enter_keeps_what_is_there():
    config = talked(line("4"), ENTER, line("0.5"), DOWN, ENTER, ENTER, DOWN, ENTER, line("quit")).config
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_clipping"]) == (4, 0.5)
    assert config["bf16"] == {"enabled": False}
    assert (config["zero_optimization"]["stage"], config["gradient_accumulation_steps"]) == (3, 1)


def test_commands_are_understood_in_lines_and_from_menus():
    keys = [line("5"), line("back"), line("6"), line("set stage 3"), line("search bucket"), line("?"), line("rest")]
    builder = talked(
        *keys, line("review"), line("show"), line("problems"), line("set bf16.enabled"), ENTER, line("save")
    )
    assert builder.config["train_micro_batch_size_per_gpu"] == 6
    assert json.loads(Path("deepspeed.json").read_text())["zero_optimization"]["stage"] == 3
    menu = [line("set fp16.enabled"), UP, ENTER, line("set stage 1"), UP, UP, ENTER, UP, UP, UP, ENTER, line("quit")]
    assert talked(*menu).config["zero_optimization"]["stage"] == 1, "another command, help, back"


def test_an_error_keeps_the_prompt_and_what_was_typed():
    assert talked("4x", ENTER, BACKSPACE, line("2"), line("quit")).config["train_micro_batch_size_per_gpu"] == 42


@pytest.mark.parametrize(("key", "error"), [("\x03", KeyboardInterrupt), ("\x04", InvalidInputError)])
def test_leaving_by_a_key_writes_nothing(key, error, folder):
    with pytest.raises(error):
        talked(line("4"), key)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("path", FIELDS)
@settings(max_examples=10, deadline=None)
@given(typed=st.text() | st.sampled_from(["0", "1e400", "\ud800", "a\0b", "true", "9" * 5000]))
def test_any_text_is_a_value_or_a_told_fault(path, typed):
    walk = Walk(Builder(CONFIG, RunFacts(), TESTED), full=True)
    place = walk.builder.place(path)
    walk.visit(place)
    try:
        _Checked(walk).validate(Document(typed))
    except ValidationError as error:
        assert error.message.isprintable()
    else:
        if typed.strip() and command_in(typed) is None:
            walk.builder.take(place, walk.read(typed))
            json.dumps(walk.builder.config, allow_nan=False, ensure_ascii=False).encode()


@pytest.fixture
def terminal(folder):
    Path("ds.json").write_text(json.dumps(CONFIG))
    opened = Terminal(
        CLI, "deepspeed", "ds.json", "--plain", cwd=folder, TERM="xterm-256color", PROMPT_TOOLKIT_NO_CPR="1"
    )
    yield opened
    opened.close()


def test_in_a_terminal_it_is_edited_and_saved(terminal, folder):
    terminal.read_until("[1, filled in]")
    terminal.type("0")
    terminal.read_until("must be at least 1 picture, not 0")
    terminal.type(BACKSPACE + line("4"))
    terminal.read_until("2/20")
    terminal.read_until("gradient_accumulation_steps [1, filled in]")
    terminal.type(line("rest"))
    terminal.read_until("or quit:")
    terminal.type(line("save"))
    terminal.read_until("ds.json.bak? [no] >")
    assert "--- ds.json" in terminal.seen
    terminal.type(line("yes"))
    assert terminal.wait() == 0
    assert "Saved. deepspeed.initialize takes ds.json as it is." in terminal.seen
    assert json.loads(Path("ds.json").read_text())["train_micro_batch_size_per_gpu"] == 4
    assert json.loads(Path("ds.json.bak").read_text()) == CONFIG


def test_ctrl_c_cancels_cleanly_and_keeps_a_draft(terminal, folder):
    terminal.read_until("[1, filled in]")
    terminal.type(line("4"))
    terminal.read_until("2/20")
    terminal.interrupt()
    assert terminal.wait() == 130
    assert "Traceback" not in terminal.seen
    assert json.loads(Path("ds.json").read_text()) == CONFIG
    assert len(list(folder.glob("state/**/*.json"))) == 1
