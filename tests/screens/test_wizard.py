"""The full-screen wizard by its keys: every kind of question, back and forth, panes and windows."""

import json
from pathlib import Path
from unittest.mock import patch

import pytest
from textual.widgets import OptionList

from harness.wizard import KINDS, SDXL, Wizard, ask, in_loop, only
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice
from simpletuner_tui.tui.screens.home import HomeScreen
from simpletuner_tui.tui.screens.review import ReviewScreen
from simpletuner_tui.tui.screens.texts import TextScreen
from simpletuner_tui.tui.screens.wizard import WizardScreen
from simpletuner_tui.tui.widgets.key_line import KeyLine

pytestmark = pytest.mark.usefixtures("folder")


# answering


@in_loop
async def test_enter_takes_every_default_and_the_rest_is_asked_for(folder):
    async with Wizard() as wizard:
        while wizard.where != "place":
            await wizard.press("enter")
        assert wizard.text("#default") == "An answer is needed here."
        await wizard.press("enter")
        assert (wizard.where, wizard.text("#fault")) == ("place", "✗ an answer is needed here")
        await wizard.type("here", *["enter"] * 3)
        assert isinstance(wizard.screen, ReviewScreen)
        assert wizard.session.answers == {
            "test.colour": "blue", "test.sure": False, "test.row": 0, "test.place": "here",
        }  # fmt: skip
        assert wizard.values["betas"] == [0.9, 0.999]


@pytest.mark.parametrize(
    ("kind", "rest", "keys", "value"),
    [
        (Kind.MENU, {"choices": KINDS[0].choices, "default": "blue"}, ["up", "up"], "red"),
        (Kind.MENU, {"choices": KINDS[0].choices, "default": "blue"}, ["1"], "green"),
        (Kind.MENU, {"choices": KINDS[0].choices, "default": "red"}, ["b", "b"], "black"),
        (Kind.MENU, {"choices": tuple(Choice(str(n), n) for n in (3, 2, 1))}, ["1"], 1),
        (Kind.YES_NO, {"default": False}, ["y"], True),
        (Kind.YES_NO, {"default": True}, ["n"], False),
        (Kind.INT, {"default": 3}, [*"12"], 12),
        (Kind.FLOAT, {}, [*"1e-5"], 1e-5),
        (Kind.TEXT, {"default": "x"}, [*"ab", "space", *"ü"], "ab ü"),
        (Kind.PATH, {"default": "x"}, [*"~/a", "/", *"b"], "~/a/b"),
        (Kind.LIST, {"default": [1.0]}, [*"0.9, 1"], [0.9, 1.0]),
        (Kind.REPEAT, {}, [*"one", "enter", *"two", "enter"], ["one", "two"]),
        (Kind.REPEAT, {}, [*"one", "enter", *"x", "enter", "backspace", *"y", "enter"], ["one", "y"]),
        (Kind.TEXT, {"secret": True, "default": ""}, [*"pass"], "pass"),
    ],
)
@in_loop
async def test_every_kind_is_answered_by_keys(folder, kind, rest, keys, value):
    async with Wizard(only(kind, **rest)) as wizard:
        await wizard.press(*keys, "f3" if kind is Kind.FLOAT or keys == ["y"] else "enter")
        assert (wizard.where, wizard.values["it"]) == ("after", value)


@in_loop
async def test_two_enters_in_haste_do_not_answer_the_question_after(folder):
    registry = ask("one", Kind.YES_NO, default=True), ask("two", Kind.YES_NO, default=False), *only(Kind.INT)
    async with Wizard(registry) as wizard:
        field = wizard.screen.query_one("ChoiceField")
        field.submit()
        field.submit()
        await wizard.press()
        assert (wizard.where, wizard.session.answers) == ("two", {"test.one": True})


@in_loop
async def test_next_takes_what_is_still_typed_into_a_list(folder):
    async with Wizard(only(Kind.REPEAT)) as wizard:
        await wizard.type("one", "enter", *"two", "f3")
        assert (wizard.where, wizard.values["it"]) == ("after", ["one", "two"])
        await wizard.press("f2", "backspace", "backspace", "enter")
        assert wizard.values["it"] == []


@in_loop
async def test_a_secret_is_never_shown(folder):
    async with Wizard(only(Kind.TEXT, secret=True)) as wizard:
        await wizard.type("hush", "enter", "f2")
        assert (wizard.where, wizard.field.value) == ("it", "")
        assert "hush" not in wizard.app.export_screenshot()
        await wizard.press("enter")
        assert wizard.values["it"] == "hush"
        await wizard.press("enter")
        assert "hush" not in wizard.app.export_screenshot()
        assert "it: ***" in "".join(wizard.rows("#answers"))


@in_loop
async def test_a_path_is_completed_as_in_a_shell(folder):
    (folder / "models/sdxl-base").mkdir(parents=True)
    (folder / "models/sdxl-turbo").mkdir()
    (folder / "notes.txt").touch()
    async with Wizard(only(Kind.PATH)) as wizard:
        assert wizard.text("#matches").split() == ["models/", "notes.txt"]
        await wizard.type("m", "tab")
        assert wizard.field.value == "models/"
        await wizard.press("tab")
        assert (wizard.field.value, wizard.field.cursor_position) == ("models/sdxl-", 12)
        assert wizard.text("#matches").split() == ["sdxl-base/", "sdxl-turbo/"]
        await wizard.press("tab")
        assert (wizard.field.value, wizard.field.has_focus) == ("models/sdxl-", False)
        await wizard.press("f6")
        await wizard.type("b", "tab", "enter")
        assert wizard.values["it"] == "models/sdxl-base/"


@in_loop
async def test_names_that_are_no_text_are_listed_all_the_same(folder):
    for name in (b"\xff.png", b"a\nb", b"a\x1b[31m"):
        (folder / name.decode("utf-8", "surrogateescape")).touch()
    async with Wizard(only(Kind.PATH)) as wizard:
        assert len(wizard.text("#matches").split("\n")) == 3
        assert wizard.app.export_screenshot().encode()


@in_loop
async def test_a_slash_filters_a_long_list_and_enter_takes_what_is_found(folder):
    async with Wizard(only(Kind.MENU, choices=KINDS[8].choices, default=3)) as wizard:
        assert len(wizard.rows()) == 12
        await wizard.type("/1")
        assert wizard.rows() == ["  row 01", "  row 10", "  row 11"]
        await wizard.press("down", "enter")
        assert (wizard.where, wizard.values["it"]) == ("after", 10)
        await wizard.press("f2")
        await wizard.type("/nothing", "enter")
        assert (wizard.where, wizard.rows(), wizard.values["it"]) == ("it", [], 10)


@in_loop
async def test_a_note_is_passed_by_enter_and_a_stop_only_by_going_back(folder):
    async with Wizard() as wizard:
        await wizard.press("g", "enter")
        assert (wizard.where, wizard.text("#default")) == ("remark", "Enter goes on.")
        await wizard.press("enter")
        assert wizard.where == "sure"
        await wizard.press("f2", "b", "down")
        assert wizard.text("#fault") == "! not here: black absorbs everything"
        assert wizard.rows()[3] == "  black  (not here)"
        await wizard.press("enter", "enter", "f3", "f4")
        assert (wizard.where, wizard.text("#text")) == ("end", "Which end?")
        assert "go back (F2)" in wizard.text("#default")
        await wizard.press("f2", "r", "enter")
        assert wizard.where == "sure"


@in_loop
async def test_checks_while_typing_never_change_what_is_typed(folder):
    async with Wizard(only(Kind.INT, default=3)) as wizard:
        await wizard.type("12x")
        assert (wizard.field.value, wizard.text("#fault")) == ("12x", "✗ type a number, such as 8 or 1e-5")
        await wizard.press("enter", "f3", "f4")
        assert (wizard.where, wizard.field.value) == ("it", "12x")
        await wizard.press("backspace")
        assert (wizard.field.value, wizard.text("#fault")) == ("12", "")
        await wizard.press("ctrl+q", "n")
        assert wizard.field.value == "12"
        await wizard.press("ctrl+p", "escape", "f1", "escape")
        assert wizard.field.value == "12"


@in_loop
async def test_an_answer_that_is_taken_away_leaves_the_default(folder):
    async with Wizard(only(Kind.INT, default=3), {"test.it": 5}) as wizard:
        assert (wizard.field.value, wizard.text("#default")) == ("5", "Enter keeps your answer: 5")
        await wizard.clear()
        await wizard.press("enter")
        assert (wizard.where, wizard.values["it"], wizard.session.answers) == ("after", 3, {})


# back and forth


@in_loop
async def test_back_and_next_keep_answers(folder):
    async with Wizard(KINDS[5:8]) as wizard:
        await wizard.type("7", "enter", *"0.25", "enter", "f2", "f2")
        assert (wizard.where, wizard.field.value) == ("count", "7")
        await wizard.press("f2")
        assert isinstance(wizard.screen, HomeScreen), "before the first question"
        await wizard.press("enter")
        assert (wizard.where, wizard.values["rate"]) == ("count", 0.25)
        await wizard.press("f3", "f3")
        assert wizard.where == "betas"
        assert wizard.session.answers == {"test.count": 7, "test.rate": 0.25}


@in_loop
async def test_back_keeps_what_stands_in_the_field_right_or_wrong(folder):
    async with Wizard(KINDS[5:8]) as wizard:
        await wizard.type("7", "enter", *"0.25", "f2", "f3")
        assert (wizard.where, wizard.values["rate"], wizard.field.value) == ("rate", 0.25, "0.25")
        await wizard.type("x", "f2", "f3")
        assert (wizard.field.value, wizard.values["rate"]) == ("0.25x", 0.25)
        await wizard.press("backspace", "backspace", "enter", "f2")
        assert wizard.field.value == "0.2"


@in_loop
async def test_answers_of_a_branch_that_is_left_are_remembered_and_not_written(folder):
    async with Wizard() as wizard:
        await wizard.press("enter", "y", "enter")
        await wizard.type("because", "enter", "f2", "f2", "n", "enter")
        assert wizard.where == "count"
        assert wizard.session.answers["test.reason"] == "because"
        await wizard.answer_everything()
        assert "because" not in "".join([*wizard.rows("#answers"), *wizard.review.review.files.values()])
        await wizard.press("f7", "enter")
        assert "test.reason" not in json.loads(Path("answers.json").read_text())["answers"]
        await wizard.app.run_action("app.dry_run")
        wizard.app.pop_screen()
        wizard.app.jump("test.sure")
        await wizard.press()
        await wizard.press("y", "enter")
        assert (wizard.where, wizard.field.value) == ("reason", "because")


@in_loop
async def test_one_jumps_to_a_step_that_was_visited_and_to_no_other(folder):
    async with Wizard() as wizard:
        assert wizard.steps == ["▶ First", "· Numbers", "· Texts"]
        await wizard.press("f6", "down", "down", "enter")
        assert wizard.where == "colour"
        await wizard.press(*["enter"] * 6)
        assert (wizard.where, wizard.steps) == ("words", ["✓ First", "✓ Numbers", "▶ Texts"])
        await wizard.press("f6", "up", "enter")
        assert (wizard.where, wizard.steps) == ("count", ["✓ First", "▶ Numbers", "· Texts"])
        assert wizard.field.has_focus
        listed = wizard.screen.query_one("StepList", OptionList)
        assert [option.disabled for option in listed.options] == [False, False, True]


@in_loop
async def test_a_step_with_an_answer_that_does_not_do_any_more_says_so(folder):
    def at_most(answer, context):
        if answer > context.number("test.most", 9):
            raise ValueError("must not be more than before")

    registry = ask("most", Kind.INT, default=9), ask("it", Kind.INT, "Second", default=1, check=at_most)
    registry += (ask("last", Kind.INT, "Third", default=1),)
    async with Wizard(registry) as wizard:
        await wizard.press("enter", "5", "enter", "f2", "f2", "2", "enter")
        assert wizard.text("#fault") == "✗ must not be more than before"
        assert wizard.field.value == "5"
        await wizard.press("f2", "f6")
        assert wizard.steps[1] == "✗ Second"
        assert wizard.screen.query_one("StepList").border_subtitle == "1 with errors"


@in_loop
async def test_the_palette_jumps_to_a_question_and_opens_the_review(folder):
    async with Wizard(answers={"test.place": "here"}) as wizard:
        await wizard.press("ctrl+p", *"rate")
        await wizard.pilot.pause(0.3)
        await wizard.press("enter")
        assert (wizard.where, wizard.field.has_focus) == ("rate", True)
        await wizard.press("ctrl+p", *"review")
        await wizard.pilot.pause(0.3)
        await wizard.press("enter")
        assert isinstance(wizard.screen, ReviewScreen)


@in_loop
async def test_help_says_everything_about_the_question_and_the_keys(folder):
    async with Wizard() as wizard:
        await wizard.press("f1")
        assert isinstance(wizard.screen, TextScreen)
        text = wizard.text(".text Static")
        for part in (
            "Which colour?",
            "Colours are seen.",
            "black: not here: black absorbs everything",
            "F2",
            "filters",
        ):
            assert part in text
        await wizard.press("f1")
        assert isinstance(wizard.screen, WizardScreen)
        assert wizard.screen.query_one("#rows").has_focus


@in_loop
async def test_panes_take_turns_and_mark_the_lines_that_an_answer_changed(folder):
    async with Wizard(REGISTRY, SDXL) as wizard:
        panes = ("#help", "#file", "#cost")
        wizard.app.jump("training.max_train_steps")
        await wizard.pilot.pause()
        assert [wizard.screen.query_one(pane).display for pane in panes] == [True, False, False]
        await wizard.type("77", "enter", "f5")
        assert [wizard.screen.query_one(pane).display for pane in panes] == [False, True, False]
        shown = wizard.text("#file Static").split("\n")
        assert [line for line in shown if line.startswith("+")] == ['+   "max_train_steps": 77,']
        await wizard.press("f6", "f6")
        assert wizard.screen.query_one("#file").has_focus
        before = wizard.screen.query_one("#file").scroll_y
        await wizard.press("pagedown")
        await wizard.until(lambda: wizard.screen.query_one("#file").scroll_y > before)
        await wizard.press("f6", "f5")
        assert wizard.field.has_focus
        assert wizard.cost.startswith("✗ Does not fit: needs ")
        assert "GPU 0 has 24,564." in wizard.cost.replace("\n  ", " ")


@in_loop
async def test_a_window_that_grows_fills_the_panes_it_has_room_for(folder):
    async with Wizard(REGISTRY, SDXL) as wizard:
        wizard.app.jump("training.max_train_steps")
        await wizard.type("77", "enter")
        assert (wizard.text("#file Static"), wizard.cost) == ("", ""), "nobody sees them"
        await wizard.pilot.resize_terminal(120, 40)
        await wizard.until(lambda: "Host RAM" in wizard.cost)
        assert '+   "max_train_steps": 77,' in wizard.text("#file Static")


@in_loop
async def test_a_wide_window_fills_its_panes_at_once(folder):
    async with Wizard(REGISTRY, SDXL, size=(120, 40)) as wizard:
        await wizard.until(lambda: "Host RAM" in wizard.cost)
        assert '"max_train_steps"' in wizard.text("#file Static")


# keys


@in_loop
async def test_keys_that_do_something_now_are_named_and_can_be_clicked(folder):
    async with Wizard((ask("place", Kind.PATH, default="here"), *only(Kind.TEXT, default=""))) as wizard:
        assert wizard.text("KeyLine").startswith("tab Complete f1 Help f2 Back")
        await wizard.press("enter")
        assert wizard.text("KeyLine").startswith("f1 Help f2 Back")
        line = wizard.screen.query_one(KeyLine)
        with patch.object(line, "update") as updated:
            await wizard.press("enter")
            assert wizard.where == "after"
        assert not updated.called, "the same keys are not drawn again"
        await wizard.pilot.click(KeyLine, offset=(wizard.text("KeyLine").index("Back"), 0))
        await wizard.press()
        assert wizard.where == "it"


# windows


@in_loop
async def test_a_window_that_is_too_small_says_so_and_works_again_when_it_is_not(folder):
    async with Wizard(only(Kind.TEXT, default="")) as wizard:
        await wizard.type("abc")
        told, body = wizard.screen.query_one("#too-small"), wizard.screen.query_one("#body")
        for size in ((59, 24), (80, 19)):
            await wizard.pilot.resize_terminal(*size)
            await wizard.until(lambda: told.display and not body.display)
            await wizard.pilot.resize_terminal(60, 20)
            await wizard.until(lambda: body.display and not told.display)
        await wizard.type("d", "enter")
        assert (wizard.where, wizard.values["it"]) == ("after", "abcd")


@in_loop
async def test_conditions_on_what_stands_in_the_field_do_not_confuse_a_jump(folder):
    registry = ask("one", Kind.INT, default=1), ask("two", Kind.INT, "Second", default=2, when=Is("test.one", 1))
    async with Wizard((*registry, ask("three", Kind.INT, "Third", default=3))) as wizard:
        await wizard.press("enter", "f2", "5")
        wizard.app.jump("test.two")
        await wizard.press()
        assert (wizard.where, wizard.values) == ("one", {"one": 5, "three": 3})
