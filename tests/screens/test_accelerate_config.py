"""accelerate-config in full screen and as prompts: the same file as its lines write, and nothing of a run."""

from pathlib import Path

import pytest
import yaml
from textual.widgets import Button

from harness.runs import CLI
from harness.terminal import Terminal
from harness.wizard import Wizard, in_loop
from simpletuner_tui.documents import accelerate_document
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.file import accelerate_file, file_bytes
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.starting import of_file
from simpletuner_tui.tui.screens.dialogs import ConfirmScreen

PROBES = {"deepspeed": True}
TWO_GPUS = {"accelerate.machine": "MULTI_GPU", "accelerate.num_processes": 2, "accelerate.mixed_precision": "bf16"}

pytestmark = pytest.mark.usefixtures("folder")


def written(answers: dict, name: str) -> bytes:
    return file_bytes(accelerate_file(resolve(ACCELERATE, answers, PROBES)), name)


def wizard_for(path: str, answers: dict) -> Wizard:
    return Wizard(ACCELERATE, answers, document=accelerate_document(Path(path)))


@in_loop
async def test_saving_writes_accelerates_file_and_ends_it(folder):
    async with wizard_for("a.json", TWO_GPUS) as wizard:
        await wizard.press("f5")
        assert '"num_processes": 2' in wizard.text("#file Static")
        await wizard.press("f4")
        assert [button.id for button in wizard.review.query(Button)] == ["save"]
        await wizard.press("f8", "f9")
        assert wizard.review.query_one("#file").border_title == "a.json"
        await wizard.press("f7", "enter")
        assert wizard.app.return_value == "Saved. accelerate launch --config_file a.json takes it."
    assert Path("a.json").read_bytes() == written(TWO_GPUS, "a.json")
    assert sorted(path.name for path in folder.iterdir()) == ["a.json"]


@in_loop
async def test_what_is_there_is_shown_and_kept_before_it_is_replaced():
    Path("a.yaml").write_text("mine: true\n")
    async with wizard_for("a.yaml", TWO_GPUS) as wizard:
        await wizard.press("f4", "f7", "enter")
        assert isinstance(wizard.screen, ConfirmScreen)
        assert "-mine: true" in wizard.text(".details Static")
        await wizard.press("y")
    assert Path("a.yaml").read_bytes() == written(TWO_GPUS, "a.yaml")
    assert Path("a.yaml.bak").read_text() == "mine: true\n"


@in_loop
async def test_a_stop_is_no_file():
    """The palette can save at any question; where accelerate refuses, so does it."""
    async with wizard_for(
        "a.yaml", {**TWO_GPUS, "accelerate.use_deepspeed": True, "accelerate.ds_use_json": True}
    ) as it:
        it.app.action_save()
        await it.press("enter")
        assert "Not saved" in it.said[-1]
        assert "accelerate.ds_json" in it.said[-1]
    assert not Path("a.yaml").exists()


@in_loop
async def test_an_answer_of_a_file_names_it_in_question_and_review():
    Path("default_config.yaml").write_bytes(written(TWO_GPUS, "x.yaml"))
    async with wizard_for("a.yaml", {}) as wizard:
        of_file(Path("default_config.yaml"), ACCELERATE).begin(wizard.session)
        await wizard.screen.jump("accelerate.num_processes")
        assert "keeps the answer in default_config.yaml: 2" in wizard.text("#default")
        await wizard.press("f4")
        assert "● num_processes: 2  (from default_config.yaml)" in wizard.rows("#answers")


def test_the_prompts_write_the_same_file(folder):
    terminal = Terminal(
        CLI, "--plain", "accelerate-config", "--config_file", "a.yaml", cwd=folder, PROMPT_TOOLKIT_NO_CPR="1"
    )
    try:
        for place in range(1, 9):
            terminal.read_until(f"{place}/8")
            terminal.type("\r")
        terminal.read_until("accelerate configuration saved at a.yaml")
        assert terminal.wait() == 0
    finally:
        terminal.close()
    assert yaml.safe_load((folder / "a.yaml").read_bytes()) == accelerate_file(resolve(ACCELERATE, {}, PROBES))


def test_a_terminal_gets_the_full_screen(folder):
    terminal = Terminal(CLI, "accelerate-config", "--config_file", "a.yaml", cwd=folder, TERM="xterm-256color")
    try:
        terminal.read_until("In which compute environment are you running?")
        terminal.type("\x11")
        assert terminal.wait() == 0
    finally:
        terminal.close()
    assert not (folder / "a.yaml").exists()
