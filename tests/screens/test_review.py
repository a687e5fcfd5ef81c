"""The end of the wizard by its keys: review, saving, leaving, drafts, launching."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from textual.widgets import Button, OptionList

from harness.fake_model import write_model, write_pictures
from harness.made_runs import MadeRun
from harness.runs import end_run, stand_in_run, wait_for
from harness.screens import CARD, MACHINE
from harness.wizard import SDXL, Wizard, ask, in_loop
from launcher.machine.gpus import Gpus
from launcher.preflight import Machine
from launcher.runs.directory import RunDirectory
from launcher.runs.state import status
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.tui.glyphs import UNICODE
from simpletuner_tui.tui.screens.dialogs import ChooseScreen, ConfirmScreen, PathScreen
from simpletuner_tui.tui.screens.review import ReviewScreen
from simpletuner_tui.tui.screens.run import RunScreen
from simpletuner_tui.tui.screens.wizard import WizardScreen
from simpletuner_tui.tui.widgets.run_lines import message_lines

pytestmark = pytest.mark.usefixtures("folder")


# review


@in_loop
async def test_the_review_marks_what_differs_and_leads_back_to_it(folder):
    async with Wizard(answers={"test.count": 4, "test.rate": 0.5}) as wizard:
        await wizard.answer_everything()
        rows = wizard.rows("#answers")
        assert "● count: 4" in rows
        assert "  rate: 0.5" in rows
        assert rows[0] == "First"
        answers = wizard.review.query_one("#answers", OptionList)
        answers.highlighted = rows.index("● count: 4")
        await wizard.press("enter")
        assert (wizard.where, wizard.field.value) == ("count", "4")
        await wizard.press("f4", "f2")
        assert wizard.where == "key"


@in_loop
async def test_a_topic_passed_over_is_at_its_defaults_and_one_that_was_opened_tells_its_answers(folder):
    chosen = {**SDXL, "training.caption_strategy": "filename", "training.snr_gamma": 5.0, "ask.objective": False}
    async with Wizard(REGISTRY, chosen) as wizard:
        await wizard.press("f4")
        rows = wizard.rows("#answers")
        assert "  sources: one folder" in rows
        assert "  preparation: aspect buckets at their defaults" in rows
        assert "  objective: defaults" in rows, "what was answered behind it does not hold"
        assert "● caption_strategy: filename" in rows
        assert not [row for row in rows if row.strip("● ").startswith(("captions:", "snr_gamma:"))]
        answers = wizard.review.query_one("#answers", OptionList)
        answers.highlighted = rows.index("  preparation: aspect buckets at their defaults")
        await wizard.press("enter")
        assert wizard.session.current.id == "ask.preparation"


@in_loop
async def test_problems_lead_to_their_question_and_launch_is_unavailable(folder):
    wanted = ask("it", Kind.INT), ask("other", Kind.INT, default=1)
    async with Wizard(wanted) as wizard:
        await wizard.press("f4")
        assert (wizard.where, wizard.said) == ("it", ["Answers are still needed, from here on."])
        await wizard.press("4", "enter", "enter")
        assert wizard.review.query_one("#launch", Button).disabled
        assert "unavailable" in wizard.review.query_one("#problems").border_subtitle
        await wizard.press("f9")
        assert wizard.said[-1].startswith("Launch is unavailable ")
        assert isinstance(wizard.screen, ReviewScreen)
    async with Wizard(REGISTRY, SDXL) as wizard:
        await wizard.press("f4")
        problems = wizard.review.query_one("#problems", OptionList)
        first = next(n for n, row in enumerate(wizard.rows("#problems")) if "pretrained_model_name_or_path: " in row)
        assert any(row.startswith("✗ pretrained_model_name_or_path") for row in wizard.rows("#answers"))
        problems.focus()
        problems.highlighted = first
        await wizard.press("enter")
        assert wizard.session.current.id == "training.pretrained_model_name_or_path"


@in_loop
async def test_the_files_are_read_by_keys_alone(folder):
    async with Wizard(REGISTRY, SDXL) as wizard:
        await wizard.press("f4", "f5", "f5", "f5")
        pane = wizard.review.query_one("#file")
        assert pane.border_title.startswith("training.json  (3 of ")
        assert pane.has_focus
        await wizard.press("pagedown")
        await wizard.until(lambda: pane.scroll_y > 0)
        await wizard.press(*["f5"] * (len(wizard.review.review.files) - 2))
        assert wizard.review.query_one("#answers").has_focus
        await wizard.press("f8")
        assert "training.json\n-------------\n" in wizard.text(".text Static")


@in_loop
async def test_a_review_that_is_left_before_it_is_judged_does_no_harm(folder):
    async with Wizard(answers={"test.place": "here"}) as wizard:
        wizard.session.skip_to_open_question()
        await wizard.app.screen.show()
        await wizard.pilot.press("f4", "f2", "f2", "f4")
        await wizard.press()
        assert isinstance(wizard.screen, ReviewScreen | WizardScreen)


# saving and leaving


@in_loop
async def test_saving_shows_what_changes_and_keeps_what_was_there(folder):
    Path("answers.json").write_text("{}\n")
    async with Wizard() as wizard:
        await wizard.answer_everything()
        await wizard.press("f7")
        await wizard.until(lambda: isinstance(wizard.screen, PathScreen))
        await wizard.press("enter")
        assert isinstance(wizard.screen, ConfirmScreen)
        diff = wizard.text(".details Static")
        assert "-{}" in diff
        assert '+    "test.place": "./here",' in diff
        await wizard.press("enter")
        assert Path("answers.json").read_text() == "{}\n", "the careful answer has the focus"
        await wizard.press("f7", "enter", "y")
        saved = json.loads(Path("answers.json").read_text())
        assert saved["answers"]["test.place"] == "./here"
        assert "test.key" not in saved["answers"]
        assert Path("answers.json.bak").read_text() == "{}\n"
        assert "simpletuner-tui --replay answers.json" in wizard.said[-1]
        before = Path("answers.json").stat().st_mtime_ns
        await wizard.press("f7", "enter")
        assert wizard.said[-1] == "answers.json holds exactly this already"
        assert Path("answers.json").stat().st_mtime_ns == before
        assert not Path("draft.json").exists()
        await wizard.press("f2")
        assert not Path("draft.json").exists(), "what is saved needs no draft"
        await wizard.press("ctrl+q")
        assert not wizard.app.is_running


@pytest.mark.parametrize("name", ["~nobody-has-this-name", "nowhere/answers.json", "/", "a" * 300, "a\0b", "a\ud800"])
@in_loop
async def test_a_place_that_cannot_be_written_is_named_and_nothing_is_lost(folder, name):
    async with Wizard() as wizard:
        await wizard.answer_everything()
        await wizard.press("f7")
        wizard.field.value = name
        await wizard.press("enter")
        assert isinstance(wizard.screen, ReviewScreen)
        if name.startswith("~"):
            assert Path(name).exists()
        else:
            assert wizard.said[-1].startswith("Not saved")
            assert not [path for path in folder.iterdir() if path.name not in ("draft.json", "state")]


@pytest.mark.parametrize("key", ["ctrl+q", "ctrl+c"])
@in_loop
async def test_leaving_asks_once_when_something_was_answered(folder, key):
    async with Wizard() as wizard:
        await wizard.press("enter", key)
        assert isinstance(wizard.screen, ConfirmScreen)
        await wizard.press("enter")
        assert (wizard.where, isinstance(wizard.screen, WizardScreen)) == ("sure", True)
        await wizard.press(key, "right", "enter")
        assert not wizard.app.is_running
    assert {path.name for path in folder.iterdir()} <= {"draft.json"}


@in_loop
async def test_leaving_at_once_asks_nothing_and_writes_nothing(folder):
    async with Wizard() as wizard:
        await wizard.press("ctrl+q")
        assert not wizard.app.is_running
    assert list(folder.iterdir()) == []


@in_loop
async def test_a_draft_is_kept_at_every_step_and_taken_up_where_it_was_left(folder):
    async with Wizard() as wizard:
        await wizard.press("r", "enter")
        assert json.loads(Path("draft.json").read_text())["answers"] == {"test.colour": "red"}
        wizard.session.go_to("test.key")
        await wizard.app.screen.show()
        await wizard.type("hush", "f2")
        draft = json.loads(Path("draft.json").read_text())
        assert draft["place"] == "test.names"
        assert "hush" not in Path("draft.json").read_text()
    async with Wizard() as wizard:
        assert isinstance(wizard.screen, ChooseScreen)
        await wizard.press("enter")
        assert wizard.where == "place", "the first that still needs an answer"
        assert wizard.values["colour"] == "red"
        await wizard.type("here", "enter")
    async with Wizard() as wizard:
        await wizard.press("down", "enter")
        assert wizard.where == "colour"
        assert json.loads(Path("draft.json").read_text())["answers"]["test.place"] == "here", "not yet replaced"
        await wizard.press("g", "enter")
        assert json.loads(Path("draft.json").read_text())["answers"] == {"test.colour": "green"}


@in_loop
async def test_the_last_answer_is_in_the_draft_and_the_review_is_taken_up(folder):
    async with Wizard() as wizard:
        await wizard.answer_everything()
        assert json.loads(Path("draft.json").read_text())["place"] == ""
    async with Wizard() as wizard:
        await wizard.press("enter")
        await wizard.press()
        assert isinstance(wizard.screen, ReviewScreen)


@pytest.mark.parametrize("saved", [1e300, "soon", None, float("nan"), [1]])
@in_loop
async def test_a_damaged_draft_does_no_harm(folder, saved):
    answers = {"test.count": [], "gone.question": 1, "test.row": {"a": 1}}
    Path("draft.json").write_text(json.dumps({"answers": answers, "place": 3, "saved": saved}))
    async with Wizard() as wizard:
        await wizard.press("enter")
        assert "gone.question" not in wizard.session.answers
        assert wizard.where == "count"


@in_loop
async def test_what_others_hold_of_the_gpu_is_judged_again_once_they_give_it_back(folder):
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    own = {"pretrained_model_name_or_path": "./model", "instance_data_dir": "./pictures", "resolution": 64}
    free = [600]

    def gpus() -> Gpus:
        return Gpus((replace(CARD, free_mib=free[0], used_mib=CARD.total_mib - free[0]),))

    here = replace(MACHINE, gpus=gpus, gpu_processes=lambda uuid: (), why_not_cuda=lambda: "")
    answers = {**SDXL, **{f"training.{key}": value for key, value in own.items()}}
    async with Wizard(REGISTRY, answers, size=(100, 30), gpus=gpus, machine=lambda: here) as wizard:
        await wizard.press("f4")
        assert any("must end first" in row for row in wizard.rows("#problems"))
        assert wizard.review.query_one("#launch", Button).disabled
        free[0] = 23_000
        await wizard.until(lambda: not any("must end first" in row for row in wizard.rows("#problems")))
        assert not wizard.review.query_one("#launch", Button).disabled


# launching


@in_loop
async def test_a_launch_asks_starts_and_says_how_to_go_on(folder):
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    answers = {
        **SDXL,
        "training.pretrained_model_name_or_path": "./model",
        "training.instance_data_dir": "./pictures",
        "training.resolution": 64,
        "accelerate.use_cpu": True,
    }
    place = folder / "runs/cats"
    async with Wizard(REGISTRY, answers, size=(100, 30), machine=Machine, run_dir=lambda: place) as wizard:
        await wizard.press("f4")
        assert not wizard.review.query_one("#launch", Button).disabled, wizard.rows("#problems")
        judged = wizard.review.review
        stand_in = stand_in_run(folder / "stand-in", "long").plan_json.read_bytes()
        stand_in = stand_in.replace(str(folder / "stand-in").encode(), str(place).encode())
        plan = replace(judged.prepared.plan, files={**judged.prepared.plan.files, "plan.json": stand_in})
        wizard.review.review = replace(judged, prepared=replace(judged.prepared, plan=plan))
        run = RunDirectory(place)
        try:
            await wizard.press("f9")
            assert "Start cats?" in wizard.text(".asked")
            await wizard.press("enter")
            assert not place.exists(), "the careful answer has the focus"
            await wizard.press("f9", "y")
            for _ in range(100):
                if isinstance(wizard.screen, RunScreen):
                    break
                await wizard.pilot.pause(0.1)
            told = "\n".join(line.plain for line in message_lines(wizard.screen.history, run, 98, 9, UNICODE))
            for part in ("simpletuner-tui attach cats", "stop cats", str(run.log)):
                assert part in told
            wait_for(lambda: status(run).live)
            assert not Path("draft.json").exists()
            await wizard.press("q")
            await wizard.until(lambda: any("running" in row and "cats" in row for row in wizard.rows()))
            await wizard.press("ctrl+q")
            assert wizard.app.return_value.startswith("cats trains by itself: simpletuner-tui attach cats")
            assert status(run).live, "it goes on without the wizard"
        finally:
            end_run(run)


@in_loop
async def test_who_goes_elsewhere_while_a_run_starts_goes_on_there_and_home_by_the_run(folder, monkeypatch):
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    answers = {
        **SDXL,
        "training.pretrained_model_name_or_path": "./model",
        "training.instance_data_dir": "./pictures",
        "training.resolution": 64,
        "accelerate.use_cpu": True,
    }
    made = MadeRun(folder / "runs/cats")
    made.begin()
    made.write()
    started = threading.Event()
    monkeypatch.setattr("simpletuner_tui.launching.start", lambda _: started.wait(20) and made.run)
    async with Wizard(REGISTRY, answers, size=(100, 30), machine=Machine, run_dir=lambda: made.run.path) as wizard:
        await wizard.press("f4")
        try:
            await wizard.pilot.press("f9")
            await wizard.until(lambda: isinstance(wizard.screen, ConfirmScreen))
            await wizard.pilot.press("y", "f9")
            assert wizard.screen is wizard.review, "it is asked for once"
            await wizard.pilot.press("f2")
            await wizard.until(lambda: isinstance(wizard.screen, WizardScreen))
        finally:
            started.set()
        await wizard.until(lambda: any("cats trains by itself" in said for said in wizard.said))
        assert isinstance(wizard.screen, WizardScreen)
        await wizard.press("ctrl+o")
        await wizard.until(lambda: isinstance(wizard.screen, RunScreen))
