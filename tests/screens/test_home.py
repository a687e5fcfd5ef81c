"""Home under somebody's fingers: what is listed, begun, opened, cloned, resumed and deleted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.fake_model import write_model, write_pictures
from harness.home_screens import make_run
from harness.runs import end_run, events, stand_in_run, wait_for
from harness.wizard import SDXL, Wizard, in_loop
from launcher.preflight import Machine
from launcher.runs.checkpoints import identity
from launcher.runs.directory import RunDirectory, create
from launcher.runs.index import register
from launcher.runs.marker import mark
from launcher.runs.spawn import launch
from launcher.runs.state import status
from simpletuner_tui.answers import Answers
from simpletuner_tui.launching import prepare
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.setups import known_setups, remember
from simpletuner_tui.tui.home_rows import read_shelf
from simpletuner_tui.tui.screens import home as home_module
from simpletuner_tui.tui.screens.dialogs import ConfirmScreen, PathScreen
from simpletuner_tui.tui.screens.home import HomeScreen
from simpletuner_tui.tui.screens.review import ReviewScreen
from simpletuner_tui.tui.screens.run import RunScreen
from simpletuner_tui.tui.screens.wizard import WizardScreen

SMALL_RUN = {
    **SDXL,
    "training.pretrained_model_name_or_path": "./model",
    "training.instance_data_dir": "./pictures",
    "training.resolution": 64,
    "accelerate.use_cpu": True,
}


class Home(Wizard):
    """Begins at home, with the whole registry."""

    def __init__(self, **setup) -> None:
        super().__init__(REGISTRY, at_home=True, **{"presets": True, **setup})

    async def choose(self, text: str) -> None:
        """Moves to the row that holds a text."""
        await self.until(lambda: any(text in row for row in self.rows()))
        listed = self.screen.query_one("#rows")
        listed.highlighted = next(index for index, row in enumerate(self.rows()) if text in row)
        await self.press()

    async def at(self, kind: type) -> None:
        await self.until(lambda: isinstance(self.screen, kind))
        await self.press()

    @property
    def keys(self) -> str:
        """What the key line says."""
        return self.text("KeyLine")


def saved(path: Path, **answers: object) -> Path:
    """A set-up that is known."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schema": 1, "answers": {**SDXL, **answers}}))
    remember(path)
    return path


# beginning


@in_loop
async def test_with_nothing_there_enter_begins_and_the_draft_is_there_on_the_way_back(folder):
    async with Home() as home:
        assert isinstance(home.screen, HomeScreen)
        assert [row.split()[0] for row in home.rows()] == ["Begin", "Start", "Start"]
        await home.press("enter")
        assert isinstance(home.screen, WizardScreen)
        await home.type("./m", "enter", *"./v", "ctrl+o")
        assert isinstance(home.screen, HomeScreen)
        assert "Continue the draft" in home.rows()[1]
        await home.choose("Continue the draft")
        await home.press("enter")
        assert home.session.answers["training.pretrained_model_name_or_path"] == "./m"
        assert home.session.current is REGISTRY[1]
        await home.press("ctrl+o", "q")
        assert not home.app.is_running


@in_loop
async def test_a_preset_is_chosen_and_what_it_leads_back_to_is_home(folder):
    async with Home() as home:
        await home.choose("Start from a preset")
        await home.press("enter", "end", "enter")
        assert isinstance(home.screen, HomeScreen)
        await home.choose("Start from a preset")
        await home.press("enter", "enter")
        assert isinstance(home.screen, WizardScreen)
        assert home.session.source_of(home.session.resolved.asked[0]) == ""
        assert home.session.answers


@in_loop
async def test_a_walk_that_was_asked_for_leads_home(folder):
    async with Wizard(REGISTRY, SDXL) as wizard:
        assert isinstance(wizard.screen, WizardScreen)
        await wizard.press("f4", "ctrl+o")
        await wizard.until(lambda: isinstance(wizard.screen, HomeScreen))


@in_loop
async def test_a_new_walk_tells_of_the_draft_and_leaves_it_until_something_is_answered(folder):
    Path("draft.json").write_text(json.dumps({"answers": SDXL, "place": "", "base": str(folder), "saved": 1.8e9}))
    async with Home() as home:
        await home.press("n")
        assert isinstance(home.screen, WizardScreen)
        assert home.said == ["The first change replaces the draft of 3 answers."]
        assert home.session.answers == {}
        assert json.loads(Path("draft.json").read_text())["answers"] == SDXL
        await home.type("./m", "enter")
        assert json.loads(Path("draft.json").read_text())["answers"] == {
            "training.pretrained_model_name_or_path": "./m"
        }


# set-ups


@in_loop
async def test_a_setup_opens_with_its_answers_and_is_saved_where_it_was(folder):
    path = saved(folder / "deep/cats.json", **{"training.seed": 7, "training.gone": 1})
    async with Home() as home:
        await home.choose("cats.json")
        await home.press("enter")
        assert home.session.answers["training.seed"] == 7
        assert home.session.answers["training.instance_data_dir"] == "./deep/nowhere", "relative to where one is"
        assert home.session.source_of(next(q for q in REGISTRY if q.id == "training.seed")) == "cats.json"
        assert home.said == ["cats.json answers what nobody asks any more: training.gone."]
        assert not Path("draft.json").exists(), "nothing was changed yet"
        await home.press("f4", "f7")
        await home.until(lambda: isinstance(home.screen, PathScreen))
        assert home.field.value == str(path)
        await home.press("enter", "y")
        await home.until(lambda: any("Saved" in said for said in home.said))
        assert json.loads(path.read_text())["answers"]["training.instance_data_dir"] == "./nowhere"
        await home.press("ctrl+o")
        await home.choose("cats.json")
        assert [each.path for each in known_setups()] == [path]


@in_loop
async def test_a_clone_is_saved_nowhere_yet(folder):
    saved(folder / "deep/cats.json", **{"training.seed": 7})
    async with Home() as home:
        await home.choose("cats.json")
        await home.press("c")
        assert home.session.answers["training.seed"] == 7
        await home.press("f4", "f7")
        assert home.field.value == "answers.json"


@in_loop
async def test_a_setup_that_cannot_be_read_says_why(folder):
    saved(folder / "cats.json").write_text("{}")
    async with Home() as home:
        await home.choose("cats.json")
        await home.press("enter")
        assert isinstance(home.screen, HomeScreen)
        assert "is not a file of answers" in home.said[0]


@in_loop
async def test_setups_and_drafts_are_deleted_after_a_question(folder):
    path = saved(folder / "cats.json")
    Path("draft.json").write_text(json.dumps({"answers": SDXL, "place": "", "base": str(folder), "saved": 1.8e9}))
    async with Home() as home:
        await home.choose("cats.json")
        await home.press("d")
        assert "cats.json?" in home.text(".asked")
        await home.press("enter")
        assert path.exists(), "the careful answer has the focus"
        await home.press("d", "y")
        await home.until(lambda: not any("cats.json" in row for row in home.rows()))
        assert (path.exists(), known_setups()) == (False, [])
        await home.choose("Continue the draft")
        await home.press("d", "y")
        assert not Path("draft.json").exists()
        assert "Start anew" in home.rows()[1]
        assert "Delete" not in home.keys


# runs


@in_loop
async def test_who_comes_back_finds_the_run_that_goes_on_first_and_follows_it(folder):
    older = make_run(folder / "runs/older", 1.7e9, result="completed")
    run = stand_in_run(folder / "runs/cats", "long")
    for each in range(6):
        make_run(folder / f"runs/more-{each}", 1.75e9, result="stopped")
    try:
        launch(run)
        wait_for(lambda: events(run, "step"))
        async with Home() as home:
            await home.until(lambda: "running" in str(home.screen.query_one("#rows").highlighted_option.prompt))
            assert ("Clone" in home.keys, "Delete" in home.keys, "Resume" in home.keys) == (True, False, False)
            assert any("3 older runs" in row for row in home.rows())
            await home.choose("3 older runs")
            await home.press("enter")
            await home.choose("older")
            assert "Delete" in home.keys
            await home.choose("cats")
            await home.press("enter")
            await home.at(RunScreen)
            assert home.screen.run == run
            await home.press("q")
            await home.at(HomeScreen)
            await home.press("ctrl+q")
            assert not home.app.is_running
        assert status(run).live
        assert older.path.exists()
    finally:
        end_run(run)


@in_loop
async def test_a_run_is_deleted_after_a_question_that_says_how_much(folder):
    run = make_run(folder / "runs/cats", 1.7e9, result="failed")
    (run.path / "checkpoints/checkpoint-3").mkdir(parents=True)
    (run.path / "checkpoints/checkpoint-3/weights").write_bytes(b"0" * 5 * 2**20)
    (run.path / "notes.txt").touch()
    async with Home() as home:
        await home.choose("cats")
        await home.press("d")
        await home.at(ConfirmScreen)
        assert home.text(".asked") == "Delete cats for good? It takes 5 MiB."
        details = home.text(".details Static")
        assert details.splitlines() == [
            str(run.path), "with checkpoint-3", f"stays: {run.path}/notes.txt (not the run's own)",
        ]  # fmt: skip
        await home.press("y")
        await home.until(lambda: not any("cats" in row for row in home.rows()))
        assert [path.name for path in run.path.iterdir()] == ["notes.txt"]
        assert home.said[-1] == "cats is deleted."


@in_loop
async def test_a_run_that_began_again_meanwhile_is_not_deleted(folder):
    run = stand_in_run(folder / "runs/cats", "long")
    make_run(run.path, 1.7e9, result="failed")
    stand_in_run(run.path, "long")
    async with Home() as home:
        await home.choose("cats")
        await home.press("d")
        await home.at(ConfirmScreen)
        try:
            launch(run)
            await home.press("y")
            await home.until(lambda: home.said)
            assert "Not deleted cats goes on; end it with `simpletuner-tui stop cats` first" in home.said
            assert run.plan_json.exists()
        finally:
            end_run(run)


@in_loop
async def test_the_answers_of_a_run_are_cloned(folder):
    run = make_run(folder / "runs/cats", 1.7e9, result="completed")
    async with Home() as home:
        await home.choose("cats")
        assert ("Clone" in home.keys, "Resume" in home.keys) == (True, False)
        await home.press("c")
        assert isinstance(home.screen, WizardScreen)
        assert home.session.answers["training.instance_data_dir"] == "./runs/cats/pictures"
        assert home.app.setup.run_dir() != run.path


def stopped_run(place: Path) -> RunDirectory:
    """A real plan of a run on a CPU, and a checkpoint that it could go on from."""
    prepared = prepare(Answers(SMALL_RUN), place)
    run = create(prepared.plan.home, prepared.plan.files)
    make_run_state = {"phase": "ended", "started": 1.7e9, "heartbeat": 1.7e9, "result": "stopped", "step": 3}
    run.state_json.write_text(json.dumps(make_run_state))
    register(run)
    settings = prepared.plan.settings
    mine = identity(settings.deepspeed_json(), settings.training, deepspeed=True, world_size=1, pictures=())
    folder = run.path / "checkpoints/checkpoint-3"
    folder.mkdir(parents=True)
    (folder / "checkpoint.json").write_text(json.dumps(mine.facts()))
    mark(folder)
    return run


@in_loop
async def test_a_stopped_run_goes_on_in_its_own_directory_after_review_and_confirmation(folder):
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    run = stopped_run(folder / "runs/cats")
    answers = run.answers.read_bytes()
    async with Home(machine=Machine, size=(100, 30)) as home:
        await home.choose("cats")
        await home.press("r")
        await home.at(ReviewScreen)
        await home.until(lambda: home.review.review)
        judged = home.review.review
        assert judged.why_not_launched is None
        assert home.text("#title").endswith("cats from checkpoint-3")
        prepared = judged.prepared
        assert (prepared.plan.home, prepared.plan.files["answers.json"]) == (run.path, answers)
        stand_in = stand_in_run(folder / "stand-in", "long").plan_json.read_bytes()
        stand_in = stand_in.replace(str(folder / "stand-in").encode(), str(run.path).encode())
        plan = replace(prepared.plan, files={**prepared.plan.files, "plan.json": stand_in})
        home.review.review = replace(judged, prepared=replace(prepared, plan=plan))
        try:
            await home.press("f9")
            assert "Go on with cats?" in home.text(".asked")
            await home.press("y")
            await home.at(RunScreen)
            assert status(run).live
            assert (run.path / "checkpoints/checkpoint-3").exists()
            await home.press("q")
            await home.at(HomeScreen)
        finally:
            end_run(run)


@pytest.mark.parametrize("broken", ["none", "damaged"])
@in_loop
async def test_a_run_without_a_whole_checkpoint_is_not_resumed(folder, broken):
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    run = stopped_run(folder / "runs/cats")
    if broken == "none":
        shutil.rmtree(run.path / "checkpoints")
    else:
        (run.path / "checkpoints/checkpoint-3/checkpoint.json").write_text("{")
    async with Home(machine=Machine) as home:
        await home.choose("cats")
        await home.press("r")
        await home.until(lambda: home.said)
        assert isinstance(home.screen, HomeScreen)
        why = "has no checkpoint to go on from" if broken == "none" else "is not a whole checkpoint"
        assert why in home.said[0]


# staying quiet


@in_loop
async def test_nothing_is_read_while_it_is_hidden_and_nothing_drawn_while_nothing_changes(folder, monkeypatch):
    make_run(folder / "runs/cats", 1.7e9, result="completed")
    looks = []
    monkeypatch.setattr(home_module, "read_shelf", lambda: looks.append(1) or read_shelf())
    monkeypatch.setattr(home_module, "INTERVAL", 0.02)
    async with Home() as home:
        await home.until(lambda: len(looks) > 3)
        drawn = []
        listed = home.screen.query_one("#rows")
        monkeypatch.setattr(listed, "refresh", lambda *parts, **rest: drawn.append(parts) or listed)
        before = len(looks)
        await home.until(lambda: len(looks) > before + 3)
        assert drawn == []
        await home.press("n")
        await home.at(WizardScreen)
        before = len(looks)
        await home.pilot.pause(0.2)
        assert len(looks) <= before + 1, "one may have been under way"


@in_loop
async def test_what_changes_below_another_screen_draws_nothing(folder, monkeypatch):
    async with Home() as home:
        below = home.screen
        await home.press("n")
        await home.at(WizardScreen)
        await home.until(lambda: not home.screen._dirty_widgets)
        drawn = []
        monkeypatch.setattr(home.screen, "refresh", lambda *parts, **rest: drawn.append(parts) or home.screen)
        below.query_one("#rows").refresh()
        below.query_one("MachineGlance").refresh()
        await home.pilot.pause(0.2)
        assert drawn == []


@in_loop
async def test_what_can_be_done_is_found_by_name(folder):
    make_run(folder / "runs/cats", 1.7e9, result="failed")
    async with Home() as home:
        await home.choose("cats")
        await home.press("ctrl+p", *"clone")
        await home.until(lambda: "Clone" in home.app.export_screenshot())
        await home.press("enter")
        await home.at(WizardScreen)
