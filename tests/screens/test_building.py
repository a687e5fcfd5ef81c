"""The DeepSpeed builder opened from the wizard, and its result coming back."""

import json
from dataclasses import replace

import pytest

from harness.wizard import SDXL, Wizard, in_loop
from simpletuner_tui.documents import accelerate_document, run_document
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.tui.screens.builder import BuilderScreen
from simpletuner_tui.tui.screens.wizard import WizardScreen
from simpletuner_tui.tui.widgets.key_line import KeyLine

FILE = {**SDXL, "accelerate.ds_use_json": True}


class Walk(Wizard):
    """The real wizard, at one of its questions."""

    def __init__(self, place: str, answers=SDXL, registry=REGISTRY, document=None) -> None:
        document = document or run_document()
        super().__init__(registry, answers, document=replace(document, sources=()))
        self.session.go_to(place)

    async def open(self, *keys: str) -> None:
        await self.press(*keys)
        await self.until(lambda: isinstance(self.app.screen, BuilderScreen))
        await self.press()

    async def back(self, *keys: str) -> None:
        await self.press(*keys)
        await self.until(lambda: isinstance(self.app.screen, WizardScreen))
        await self.press()

    async def find(self, field: str, *keys: str) -> None:
        await self.press("/", *field, "enter", *keys)

    @property
    def keys(self) -> str:
        return str(self.app.screen.query_one(KeyLine).render())

    @property
    def told(self) -> str:
        return "\n".join(notice.message for notice in self.app._notifications)


@in_loop
async def test_what_is_applied_becomes_the_answers_and_the_walk_stays_where_it_was(folder):
    async with Walk("accelerate.use_clip") as walk:
        await walk.open("f8")
        await walk.find("stage", "enter", "3", "enter")
        await walk.back("f7")
        assert walk.session.answers["accelerate.zero_stage"] == 3
        assert walk.session.current.id == "accelerate.use_clip"
        assert "Changed: accelerate.zero_stage" in walk.told
        await walk.press("f2")
        assert walk.session.current.id != "accelerate.use_clip"


@in_loop
async def test_what_no_question_asks_is_kept_as_an_answer_that_is_seen(folder):
    async with Walk("accelerate.zero_stage") as walk:
        await walk.open("f8")
        await walk.find("round_robin", "enter", "down", "enter")
        await walk.back("f7")
        assert walk.session.answers["deepspeed.extra"] == {"zero_optimization": {"round_robin_gradients": True}}
        assert "deepspeed.extra" in {question.id for question in walk.session.resolved.asked}
        walk.session.go_to("deepspeed.extra")
        await walk.app.screen.show()
        await walk.press()
        assert "round_robin_gradients" in walk.app.export_screenshot()
        await walk.open("f8")
        await walk.find("round_robin", "delete")
        await walk.back("f7")
        assert walk.session.answers["deepspeed.extra"] == {}


@in_loop
async def test_left_without_applying_nothing_is_answered(folder):
    async with Walk("accelerate.zero_stage") as walk:
        await walk.open("f8")
        await walk.find("stage", "enter", "3", "enter")
        await walk.press("f2")
        await walk.back("y")
        assert walk.session.answers == SDXL


@in_loop
async def test_what_deepspeed_would_stop_at_is_not_applied(folder):
    async with Walk("accelerate.zero_stage") as walk:
        await walk.open("f8")
        await walk.find("allgather_bucket", "enter", "7", "enter")
        await walk.press("f7")
        assert isinstance(walk.app.screen, BuilderScreen)
        assert "must be even" in walk.told
        await walk.press("backspace", "8", "enter")  # the focus is where it is mended
        await walk.back("f7")
        assert walk.session.answers["deepspeed.zero_optimization.allgather_bucket_size"] == 500_000_008


@in_loop
async def test_a_copy_is_saved_to_a_file_beside(folder):
    async with Walk("accelerate.zero_stage") as walk:
        await walk.open("f8")
        await walk.press("ctrl+p", *"save", "enter")
        await walk.press("enter")
        await walk.until((folder / "deepspeed.json").exists)
        await walk.press()
        assert json.loads((folder / "deepspeed.json").read_text())["zero_optimization"]["stage"] == 2
        assert isinstance(walk.app.screen, BuilderScreen)


@in_loop
async def test_at_the_question_for_a_file_what_is_built_is_saved_and_named(folder):
    async with Walk("accelerate.ds_json", FILE) as walk:
        await walk.open("f8")
        assert "f7 Save" in walk.keys
        await walk.press("f7")
        await walk.back("enter")
        assert walk.session.answers["accelerate.ds_json"] == "deepspeed.json"
        assert walk.session.current.id == "accelerate.ds_json"
        assert "deepspeed.json" in walk.app.export_screenshot()
        await walk.press("enter")
        assert walk.session.current.id != "accelerate.ds_json"


@in_loop
async def test_accelerates_own_questions_open_the_builder_for_a_file(folder):
    answers = {"accelerate.use_deepspeed": True, "accelerate.ds_use_json": True, "accelerate.ds_json": "ds.json"}
    (folder / "ds.json").write_text('{"zero_optimization": {"stage": 3}}')
    document = accelerate_document(folder / "accelerate.yaml")
    async with Walk("accelerate.ds_json", answers, ACCELERATE, document) as walk:
        await walk.open("f8")
        await walk.find("stage", "enter", "2", "enter")
        await walk.press("f7", "enter")
        await walk.back("y")
        assert json.loads((folder / "ds.json").read_text())["zero_optimization"]["stage"] == 2


@in_loop
async def test_a_file_that_cannot_be_opened_is_named(folder):
    (folder / "ds.json").write_text("{")
    async with Walk("accelerate.ds_json", {**FILE, "accelerate.ds_json": "ds.json"}) as walk:
        await walk.press("f8")
        await walk.until(lambda: "ds.json ends too early" in walk.told)
        assert isinstance(walk.app.screen, WizardScreen)


@pytest.mark.parametrize(
    ("registry", "answers", "place"),
    [
        (REGISTRY, {**SDXL, "accelerate.use_deepspeed": False}, "accelerate.use_deepspeed"),
        (ACCELERATE, {"accelerate.use_deepspeed": True}, "accelerate.zero_stage"),
    ],
    ids=["without DeepSpeed", "in accelerate's own questions"],
)
@in_loop
async def test_where_there_is_nothing_to_build_no_key_says_so(folder, registry, answers, place):
    document = run_document() if registry is REGISTRY else accelerate_document(None)
    async with Walk(place, answers, registry, document) as walk:
        assert "f8" not in walk.keys
        await walk.press("f8")
        assert isinstance(walk.app.screen, WizardScreen)


@in_loop
async def test_the_palette_opens_it_too(folder):
    async with Walk("accelerate.zero_stage") as walk:
        await walk.press("ctrl+p", *"deepspeed", "space", *"builder")
        await walk.open("enter")


@in_loop
async def test_every_key_fits_in_80_columns(folder):
    async with Walk("accelerate.zero_stage") as walk:
        assert len(walk.keys) <= 80
        await walk.open("f8")
        assert "f7 Apply" in walk.keys
        assert len(walk.keys.partition(" ^q")[0]) <= 80
