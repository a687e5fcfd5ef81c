"""Rehearsing from the review, by its keys; a stand-in trains."""

from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.widgets import Button

from harness.fake_model import write_model, write_pictures
from harness.rehearsals import stand_in_plans
from harness.runs import end_run, wait_for
from harness.wizard import SDXL, Wizard, in_loop
from launcher.preflight import Machine
from launcher.runs.directory import RunDirectory
from launcher.runs.state import Status, status
from launcher.runs.stop import request_stop
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.tui.screens.dialogs import ConfirmScreen
from simpletuner_tui.tui.screens.rehearsal import RehearsalScreen
from simpletuner_tui.tui.screens.review import ReviewScreen
from simpletuner_tui.tui.screens.texts import TextScreen


@pytest.fixture
def reviewed(folder, monkeypatch):
    """The wizard at its review, with a run that can be started, whose rehearsal is a stand-in's."""
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    answers = {
        **SDXL,
        "training.pretrained_model_name_or_path": "./model",
        "training.instance_data_dir": "./pictures",
        "training.resolution": 64,
        "accelerate.use_cpu": True,
    }
    here = {"machine": Machine, "run_dir": lambda: folder / "runs/cats"}

    @asynccontextmanager
    async def opened(mode: str):
        monkeypatch.setattr("simpletuner_tui.rehearsing.rehearsal_plan", stand_in_plans(mode))
        async with Wizard(REGISTRY, answers, size=(100, 40), **here) as wizard:
            await wizard.press("f4")
            yield wizard

    yield opened
    for path in (folder / "runs").glob(".rehearsal-*"):
        end_run(RunDirectory(path))


def shown(wizard: Wizard) -> str:
    """What the review says of the rehearsal; empty where it says nothing."""
    pane = wizard.review.query_one("#rehearsal")
    return f"{pane.border_title}\n{wizard.text('#rehearsal Static')}" if pane.display else ""


async def begun(wizard: Wizard) -> RunDirectory:
    """A rehearsal under way."""
    await wizard.press("f6")
    # Its parts come a moment after it.
    await wizard.until(lambda: isinstance(wizard.screen, RehearsalScreen) and wizard.screen.query("#said"), 30)
    return wizard.screen.run


async def over(wizard: Wizard, screen: type = ReviewScreen) -> None:
    await wizard.until(lambda: isinstance(wizard.screen, screen), 30)


@in_loop
async def test_figures_come_back_are_kept_and_are_stale_once_an_answer_that_matters_changes(folder, reviewed):
    async with reviewed("short") as wizard:
        assert shown(wizard) == ""
        await begun(wizard)
        assert "simpletuner-tui attach .rehearsal-cats" in wizard.text("#said")
        await over(wizard)
        await wizard.until(lambda: shown(wizard) != "")
        measured = shown(wizard)
        assert measured.startswith("Rehearsal\n") and "Host RAM        512 MiB" in measured
        assert list((folder / "runs").iterdir()) == []
        await wizard.press("f2", "f4")
        assert shown(wizard) == measured
        wizard.session.take({"training.output_dir": "elsewhere", "training.export_pipeline": False})
        await wizard.press("f2", "f4")
        assert shown(wizard) == measured, "neither is rehearsed"
        wizard.session.take({"training.learning_rate": 1.0})
        await wizard.press("f2", "f4")
        assert shown(wizard) == measured.replace("Rehearsal\n", "Rehearsal, stale: answers have changed since\n")
        wizard.session.take({"training.learning_rate": 1e-5})
        await wizard.press("f2", "f4")
        assert shown(wizard) == measured


@in_loop
async def test_one_that_fails_says_what_a_failed_run_says_and_leads_back(folder, reviewed):
    async with reviewed("failure") as wizard:
        await wizard.press("f6")
        await over(wizard, TextScreen)
        await wizard.until(lambda: wizard.screen.query(".text Static"))  # its parts come a moment after it
        left = folder / "runs/.rehearsal-cats"
        said = wizard.text(".text Static")
        assert said.startswith(f"this picture is damaged\n  log  {left / 'train.log'}\n  exit 2\n\nFailed after ")
        await wizard.press("enter")
        assert isinstance(wizard.screen, ReviewScreen)
        assert shown(wizard) == ""
        assert left.exists()


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
@in_loop
async def test_it_can_be_stopped_and_what_was_measured_by_then_is_shown(folder, reviewed, key):
    async with reviewed("long with bar") as wizard:
        run = await begun(wizard)
        await wizard.until(lambda: "train" in wizard.text("#moving"))
        await wizard.press(key)
        assert "It stops once this step is done" in wizard.text("#said")
        await over(wizard)
        await wizard.until(lambda: "Host RAM        512 MiB" in shown(wizard))
        assert not run.path.exists()


@in_loop
async def test_it_is_begun_once_however_often_it_is_asked_for(folder, reviewed):
    async with reviewed("short") as wizard:
        await wizard.press("f6", "f6")
        await over(wizard, RehearsalScreen)
        await over(wizard)
        await wizard.until(lambda: shown(wizard) != "")
        assert not isinstance(wizard.screen, RehearsalScreen)
        assert list((folder / "runs").glob(".rehearsal-*")) == []


@in_loop
async def test_asked_twice_it_ends_at_once_and_before_a_step_there_is_nothing_to_show(folder, reviewed, monkeypatch):
    monkeypatch.setenv("STAND_IN_FIRST_STEP_SECONDS", "600")
    async with reviewed("long") as wizard:
        await begun(wizard)
        await wizard.press("q", "q")
        await over(wizard)
        await wizard.until(lambda: bool(wizard.said))
        assert "ended at once" in wizard.said[-1]
        assert "nothing was measured" in wizard.said[-1]
        assert shown(wizard) == ""


@in_loop
async def test_the_wizard_may_be_left_meanwhile_and_says_how_to_come_back(folder, reviewed):
    async with reviewed("long") as wizard:
        run = await begun(wizard)
        await wizard.press("ctrl+q")
        if wizard.app.is_running:
            await wizard.press("y")
        assert wizard.app.return_value.startswith(".rehearsal-cats trains by itself: simpletuner-tui attach")
        wait_for(lambda: status(run).status is Status.RUNNING)


@in_loop
async def test_one_that_ends_while_something_is_asked_waits_for_the_answer(folder, reviewed):
    async with reviewed("long") as wizard:
        wizard.session.take({"training.learning_rate": 1e-6})
        run = await begun(wizard)
        await wizard.press("ctrl+q")
        assert isinstance(wizard.screen, ConfirmScreen)
        request_stop(run, "asked to stop")
        await wizard.until(lambda: not status(run).live, 30)
        await wizard.pilot.pause(0.5)
        assert isinstance(wizard.screen, ConfirmScreen)
        await wizard.press("n")
        await over(wizard)
        await wizard.until(lambda: shown(wizard).startswith("Rehearsal"))


@in_loop
async def test_what_cannot_be_launched_cannot_be_rehearsed(folder):
    async with Wizard(REGISTRY, SDXL) as wizard:
        await wizard.press("f4")
        assert wizard.review.query_one("#rehearse", Button).disabled
        await wizard.press("f6")
        assert wizard.said[-1].startswith("Rehearse is unavailable ")
        assert isinstance(wizard.screen, ReviewScreen)
        assert not Path("runs").exists()
