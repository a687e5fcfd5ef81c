"""The DeepSpeed builder by its keys: fields, search, reasons, problems, leaving, saving."""

import json
import signal
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList, Static

from harness.builder_screens import CONFIG, WRONG, BuilderScenario, make_app
from harness.runs import CLI
from harness.screens import LARGE, SMALL, TINY, choose_card, settle
from harness.terminal import Terminal
from harness.wizard import in_loop
from launcher.deepspeed.examples import EXAMPLES
from launcher.deepspeed.fields import FIELDS
from launcher.deepspeed.template import Template
from launcher.deepspeed.templates import find_template
from launcher.deepspeed.writing import as_json
from launcher.errors import ExitCode
from simpletuner_tui.tui.glyphs import ASCII
from simpletuner_tui.tui.screens.builder import BuilderScreen
from simpletuner_tui.tui.screens.dialogs import ConfirmScreen, PathScreen
from simpletuner_tui.tui.screens.texts import TextScreen
from simpletuner_tui.tui.widgets.cost_pane import CostPane, CostView
from simpletuner_tui.tui.widgets.key_line import KeyLine

pytestmark = pytest.mark.usefixtures("folder")


class Bench:
    """The builder under a test's fingers."""

    def __init__(self, config=CONFIG, *, size=SMALL, **scenario) -> None:
        self.app = make_app(BuilderScenario("test", config=config, **scenario))
        self.given = self.app._editing.builder
        self._running = self.app.run_test(size=size)

    async def __aenter__(self) -> "Bench":
        self.pilot = await self._running.__aenter__()
        await self.pilot.pause()
        return self

    async def __aexit__(self, *error) -> None:
        await self._running.__aexit__(*error)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.pilot.press(key)
        await self.pilot.pause()

    async def find(self, words: str, *keys: str) -> None:
        """Goes to the field that words name best, then presses keys."""
        await self.press("slash")
        await self.press(*("space" if letter == " " else letter for letter in words), "enter", *keys)

    @property
    def screen(self):
        return self.app.screen

    @property
    def builder(self):
        assert isinstance(self.screen, BuilderScreen)
        return self.screen.builder

    def text(self, selector: str) -> str:
        """What a widget says, if it is seen."""
        widget = self.screen.query_one(selector, Static)
        return str(widget.content) if widget.display else ""

    def rows(self, selector: str = "#fields") -> list[str]:
        return [str(option.prompt) for option in self.screen.query_one(selector, OptionList).options]

    @property
    def path(self) -> str:
        """Of what is edited."""
        return str(self.screen.query_one("#editor").border_subtitle)

    @property
    def marked(self) -> list[str]:
        """The lines of the JSON that are marked."""
        lines = self.text("#file Static").splitlines()
        return [line[1:].strip().rstrip(",") for line in lines if line.startswith("+")]

    @property
    def cost(self) -> str:
        return str(self.screen.query_one(CostView).render())

    @property
    def focus(self) -> str | None:
        return self.app.focused and self.app.focused.id

    @property
    def said(self) -> list[str]:
        return [f"{each.title} {each.message}".strip() for each in self.app._notifications]


# editing


@in_loop
async def test_a_field_is_edited_and_its_line_in_the_json_is_marked(folder):
    async with Bench() as bench:
        assert bench.focus == "fields"
        await bench.find("stage", "enter", "3")
        assert (bench.path, bench.focus) == ("zero_optimization.stage", "rows")
        await bench.press("enter")
        assert bench.focus == "fields", "one field after the other"
        assert bench.marked == ['"stage": 3']
        await bench.find("gradient_clipping", "enter", "end", "ctrl+u", *"0.5", "f3")
        assert bench.marked == ['"gradient_clipping": 0.5']
        assert "● gradient_clipping: 0.5" in bench.rows()
        assert bench.builder.config["zero_optimization"]["stage"] == 3


@in_loop
async def test_what_is_wrong_is_said_while_it_is_typed_and_listed_once_it_is_taken(folder):
    async with Bench() as bench:
        assert bench.rows("#problems")[0] == "✓ nothing speaks against it"
        await bench.find("lr", "enter", "x")
        assert bench.text("#fault") == "✗ must be a number, not 'x'"
        await bench.press("enter")
        assert bench.app.focused.value == "x"
        await bench.press("backspace", "0")
        assert bench.text("#fault").startswith("! would bring: at a learning rate of 0 nothing is learnt")
        await bench.press("enter")
        assert bench.rows("#problems")[0].startswith("warning: optimizer.params.lr: at a learning rate of 0")
        assert "! lr: 0" in bench.rows()
        await bench.press("delete")
        assert bench.rows("#problems")[0] == "✓ nothing speaks against it"
        assert bench.text("#now") == "Now 1e-05, filled in: the run's learning_rate."


@in_loop
async def test_a_row_says_why_it_does_not_work_here(folder):
    async with Bench() as bench:
        await bench.find("optimizer.type", "enter")
        assert "  MuAdam  (not here)" in bench.rows("#rows")
        await bench.press("slash", *"muadamw", "down")
        assert "MuAdamW needs the package mup and base shapes" in bench.text("#fault")
        await bench.press("escape")
        assert (bench.focus, bench.builder.edited) == ("fields", False)


@in_loop
async def test_a_field_says_why_it_has_no_effect_until_it_has_one(folder):
    async with Bench() as bench:
        await bench.find("sub_group_size")
        assert bench.text("#idle") == "· No effect now: only at stage 3; the stage is 2."
        assert any(row.startswith("· sub_group_size") for row in bench.rows())
        await bench.press("escape")
        await bench.find("stage", "enter", "3", "enter")
        await bench.press("escape")
        await bench.find("sub_group_size")
        assert bench.text("#idle") == ""


@in_loop
async def test_what_is_typed_is_taken_when_one_goes_elsewhere_and_dropped_with_escape(folder):
    async with Bench() as bench:
        await bench.find("reduce_bucket_size", "enter", "end", "ctrl+u", *"6e7", "f6", "f6")
        await bench.press("escape", "down")
        assert bench.builder.config["zero_optimization"]["reduce_bucket_size"] == 60_000_000
        await bench.find("reduce_bucket_size", "enter", "9", "escape")
        await bench.press("down")
        assert bench.builder.config["zero_optimization"]["reduce_bucket_size"] == 60_000_000


@in_loop
async def test_what_is_no_value_is_shown_again_and_never_saved_over(folder):
    async with Bench() as bench:
        await bench.find("reduce_bucket_size", "enter", "x", "f6", "f6")
        await bench.press("escape", "down")
        assert "is no value" in bench.said[-1]
        await bench.press("f7")
        assert bench.path == "zero_optimization.reduce_bucket_size"
        assert bench.app.focused.value == "50000000x"
        await bench.press("escape", "f7")
        assert isinstance(bench.screen, PathScreen)


@in_loop
async def test_a_key_that_is_not_known_is_kept_or_taken_out(folder):
    async with Bench(WRONG) as bench:
        await bench.find("house", "enter")
        assert bench.text("#meaning") == "Not edited here, and kept as it stands."
        await bench.press("enter")
        assert bench.builder.config["house_rules"] == {"project": "cats"}
        await bench.press("enter", "down", "enter")
        assert "house_rules" not in bench.builder.config
        assert not any("house_rules" in row for row in bench.rows("#problems"))
        assert bench.path != "house_rules", "what is gone is not shown"


# the cost


@in_loop
async def test_what_is_edited_is_priced_where_it_is_seen(folder):
    async with Bench() as bench:
        pane = bench.screen.query_one(CostPane)
        assert pane.priced is None, "nobody sees it"
        await bench.press("f5", "f5")
        await settle(bench.app, bench.pilot)
        assert pane.border_title == "Cost (estimate, SDXL at 1024 px)"
        assert bench.cost.startswith("✓ Fits: ")
        await bench.find("stage", "enter", "3", "enter", "f5", "f5")
        await settle(bench.app, bench.pilot)
        assert any(line.startswith("-") and " MiB, RAM " in line for line in bench.cost.split("\n")[:3])
        await bench.press(*choose_card(8))
        await settle(bench.app, bench.pilot)
        assert " of an 8 GB card." in bench.cost.replace("\n  ", " ")


@in_loop
async def test_what_deepspeed_would_stop_at_has_no_cost(folder):
    async with Bench(WRONG, size=LARGE) as bench:
        await settle(bench.app, bench.pilot)
        assert bench.cost.replace("\n", " ") == "Not known before the errors below are mended."


# finding


@in_loop
async def test_every_field_is_listed_or_those_that_matter(folder):
    async with Bench() as bench:
        basic = bench.rows()
        assert "  betas" in basic
        assert "  eps" not in basic
        await bench.press("f4")
        assert bench.screen.query_one("#fields").border_title == "All fields"
        assert len([row for row in bench.rows() if row[1:2] == " "]) == len(FIELDS)
        await bench.press("f4")
        assert bench.rows() == basic


@in_loop
async def test_the_search_goes_over_every_field_and_escape_ends_it(folder):
    async with Bench() as bench:
        basic = bench.rows()
        await bench.press("slash", *"gpudirect")
        assert (bench.path, bench.rows()[0]) == ("aio.use_gds", "NVMe input and output")
        await bench.press("slash", *"xx")
        assert bench.rows() == ["No field is about this."]
        await bench.press("down", "f4", "f4", "escape")
        assert bench.screen.query_one("#search", Input).value == ""
        assert [row for row in bench.rows() if "use_gds" not in row and not row.startswith("NVMe")] == basic


@in_loop
async def test_enter_on_a_problem_goes_to_its_field_in_whichever_view(folder):
    async with Bench(WRONG) as bench:
        assert bench.screen.query_one("#problems").border_subtitle.startswith("2 errors, ")
        await bench.press("f6", "f6", "enter")
        assert bench.path == "zero_optimization.bucket", "the gravest comes first"
        for number, row in enumerate(bench.rows("#problems")):
            await bench.press("f6", *["down"] * bool(number), "enter")
            assert bench.screen.query_one("#editor").has_focus_within, row
            field = row.split(": ")[1]
            assert bench.path == field or bench.path.startswith(f"{field}."), row


@in_loop
async def test_a_problem_is_found_from_a_search_that_does_not_show_it(folder):
    async with Bench(WRONG) as bench:
        await bench.press("slash", *"gpudirect", "enter", "f6", "f6", "enter")
        assert bench.path == "zero_optimization.bucket"
        assert any(row.startswith("✗ zero_optimization.bucket") for row in bench.rows())


@in_loop
async def test_what_was_changed_on_opening_is_said_with_its_reason(folder):
    async with Bench(WRONG) as bench:
        told = bench.rows("#problems")
        assert "changed: zero_optimization.stage: zero2 to 2 (the stage is a number)" in told
        assert any(row.startswith("changed: optimizer.type: fusedadam to AdamW (") for row in told)
        assert any(row.startswith("filled in: gradient_clipping: 1.0 (the run") for row in told)


# moving about


@pytest.mark.parametrize(("size", "around"), [(SMALL, 3), (LARGE, 5)])
@in_loop
async def test_the_focus_goes_round_all_that_is_seen(folder, size, around):
    async with Bench(WRONG, size=size) as bench:
        seen = []
        for _ in range(around):
            await bench.press("f6")
            seen.append(bench.app.focused)
            assert bench.app.focused.region.area > 0
        assert len(set(seen)) == around
        assert bench.focus == "fields"


@in_loop
async def test_json_and_cost_take_the_place_of_the_field_where_there_is_room_for_one(folder):
    async with Bench() as bench:

        def seen() -> list[str]:
            return [part for part in ("editor", "file", "cost") if bench.screen.query_one(f"#{part}").region.area]

        assert seen() == ["editor"]
        await bench.press("f5")
        assert (seen(), bench.focus) == (["file"], "file")
        await bench.press("f5")
        assert (seen(), bench.focus) == (["cost"], "cost")
        await bench.press("f5")
        assert (seen(), bench.focus) == (["editor"], "fields")
        await bench.press("f5", "f6", "f6", "enter")
        assert seen() == ["editor"]
        assert bench.screen.query_one("#editor").has_focus_within
    async with Bench(size=LARGE) as bench:
        assert seen() == ["editor", "file", "cost"]
        for focus in ("file", "cost", "fields"):
            await bench.press("f5")
            assert bench.focus == focus


@in_loop
async def test_a_window_that_is_too_small_says_so_and_loses_nothing(folder):
    async with Bench(size=TINY) as bench:
        assert bench.text("#too-small").startswith("This window is too small")
        await bench.pilot.resize_terminal(*SMALL)
        await bench.press("down")
        assert bench.focus == "fields"


@in_loop
async def test_every_key_of_the_last_line_fits_and_help_names_them(folder):
    async with Bench() as bench:
        assert len(str(bench.screen.query_one(KeyLine).content)) <= 80
        await bench.press("f1")
        assert isinstance(bench.screen, TextScreen)
        told = bench.text(".text Static")
        assert "Pictures per optimizer step" in told or "Pictures per GPU" in told
        assert "searches every field" in told


@in_loop
async def test_a_terminal_of_ascii_sees_no_other_sign(folder):
    async with Bench(WRONG, glyphs=ASCII) as bench:
        await bench.find("offload_param.device", "enter", "down")
        texts = [*bench.rows(), *bench.rows("#problems"), *bench.rows("#rows"), bench.text("#fault")]
        assert all(text.isascii() for text in texts)


# leaving


@in_loop
async def test_leaving_without_a_change_asks_nothing(folder):
    async with Bench() as bench:
        await bench.press("f2")
    assert bench.app.return_value == "Nothing was written."
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("key", ["f2", "ctrl+q", "ctrl+c"])
@in_loop
async def test_leaving_with_a_change_asks_once_and_gives_nothing_back(folder, key):
    async with Bench() as bench:
        await bench.find("stage", "enter", "3", "enter")
        await bench.press(key)
        assert "kept as a draft and offered again" in bench.text(".asked")
        await bench.press("enter")
        assert isinstance(bench.screen, BuilderScreen), "the careful answer has the focus"
        assert bench.builder.config["zero_optimization"]["stage"] == 3
        await bench.press(key, "y")
    assert bench.app.return_value == "Nothing was written."
    assert [path.name for path in folder.iterdir()] == ["state"], "nothing but the draft"


# saving


@in_loop
async def test_saving_shows_what_changes_keeps_what_was_there_and_gives_the_configuration_back(folder):
    Path("deepspeed.json").write_text('{"mine": true}\n')
    async with Bench() as bench:
        screen = bench.screen
        given = []
        screen.dismiss, dismiss = lambda config: (given.append(config), dismiss(config)), screen.dismiss
        await bench.find("stage", "enter", "3", "enter")
        await bench.press("f7", "enter")
        assert isinstance(bench.screen, ConfirmScreen)
        assert '-{"mine": true}' in bench.text(".details Static")
        await bench.press("n")
        assert Path("deepspeed.json").read_text() == '{"mine": true}\n'
        await bench.press("f7", "enter", "y")
    assert bench.app.return_value == "Saved. deepspeed.initialize takes deepspeed.json as it is."
    assert Path("deepspeed.json.bak").read_text() == '{"mine": true}\n'
    assert [json.loads(Path("deepspeed.json").read_text())] == given
    assert given[0]["zero_optimization"]["stage"] == 3


@in_loop
async def test_what_cannot_be_written_is_said_and_the_screen_stays(folder):
    async with Bench() as bench:
        await bench.press("f7", "end", "ctrl+u", *"nowhere", "slash", *"a.json", "enter")
        assert "is not a folder" in bench.said[-1]
        assert isinstance(bench.screen, BuilderScreen)
        await bench.press("f7", "escape")
        assert isinstance(bench.screen, BuilderScreen)


@in_loop
async def test_saving_what_does_not_start_is_asked_about(folder):
    async with Bench(WRONG) as bench:
        await bench.press("f7")
        assert isinstance(bench.screen, ConfirmScreen)
        assert "2 errors" in bench.text(".asked")
        await bench.press("n")
        assert isinstance(bench.screen, BuilderScreen)
        await bench.press("f7", "y", "enter")
    assert json.loads(Path("deepspeed.json").read_text())["house_rules"] == {"project": "cats"}


@in_loop
async def test_saving_what_is_there_already_writes_nothing(folder):
    async with Bench() as bench:
        config = bench.builder.config
        Path("deepspeed.json").write_text(as_json(config))
        await bench.press("f7", "enter")
    assert bench.app.return_value == "Saved. deepspeed.initialize takes deepspeed.json as it is."
    assert [path.name for path in folder.iterdir()] == ["deepspeed.json"]


@in_loop
async def test_a_config_json_gets_it_in_its_place_and_keeps_the_rest(folder):
    Path("config.json").write_text('{\n  "seed": 1,\n  "--deepspeed_config": "{}"\n}\n')
    async with Bench() as bench:
        await bench.press("f7", "end", "ctrl+u", *"config", "full_stop", *"json", "enter")
        assert "@@" in bench.text(".details Static")
        await bench.press("y")
    assert bench.app.return_value == "Saved in config.json, as its deepspeed_config."
    start, _, end = Path("config.json").read_text().partition(json.dumps(json.dumps(bench.given.config)))
    assert (start, end) == ('{\n  "seed": 1,\n  "--deepspeed_config": ', "\n}\n")


# templates


@in_loop
async def test_a_template_is_told_about_compared_and_used(folder):
    async with Bench() as bench:
        await bench.press("f8")
        assert bench.rows("#names") == [f"{each.name}  (comes with the program)" for each in EXAMPLES]
        told = bench.text("#about Static")
        assert "Corrected: train_batch_size is left out" in told
        assert "changed: gradient_accumulation_steps: 1 to 4" in told
        await bench.press("down")
        assert "changed: zero_optimization.stage: 2 to 3" in bench.text("#about Static")
        await bench.press("escape", "f8", "down", "enter")
        assert isinstance(bench.screen, BuilderScreen)
        assert bench.builder.written == EXAMPLES[1].config
        assert '"stage": 3' in bench.marked
        assert any("nvme" in row for row in bench.rows("#problems"))
        assert bench.builder.edited


@in_loop
async def test_what_is_edited_is_kept_as_a_template_and_removed(folder):
    async with Bench() as bench:
        await bench.press("f8", "f7", *"mine", "enter", *"small", "enter")
        assert bench.rows("#names")[-1] == "mine"
        assert bench.text("#about Static") == "small\n\nIt says what is there already."
        assert find_template("mine") == Template("mine", "small", CONFIG)
        await bench.press("f7", *"mine", "enter", "enter")
        assert "a template mine is there already" in bench.text(".asked")
        await bench.press("y")
        assert find_template("mine").description == ""
        await bench.press("f7", "slash", "enter", "enter")
        assert "cannot name a template" in bench.text("#fault")
        await bench.press("escape", "delete", "y")
        assert "mine" not in bench.rows("#names")
        await bench.press("delete")
        assert "comes with the program" in bench.said[-1]
        await bench.press("escape")
        assert isinstance(bench.screen, BuilderScreen)


# the palette


@in_loop
async def test_the_palette_goes_to_any_field_and_does_what_keys_do(folder):
    async with Bench() as bench:
        await bench.press("ctrl+p", *"gpudirect")
        await bench.pilot.pause(0.3)
        await bench.press("down", "enter")
        await bench.pilot.pause(0.3)
        assert bench.path == "aio.use_gds"
        assert bench.screen.query_one("#editor").has_focus_within
        await bench.press("f1")
        assert isinstance(bench.screen, TextScreen), "also while a field is edited"
        await bench.press("escape", "ctrl+p", *"templ")
        await bench.pilot.pause(0.3)
        await bench.press("down", "enter")
        await bench.pilot.pause(0.3)
        assert bench.rows("#names")


# drafts


@in_loop
async def test_what_was_left_is_offered_again_until_it_is_saved(folder):
    async with Bench() as bench:
        await bench.find("stage", "enter", "3", "enter")
        await bench.press("f2", "y")
    async with Bench() as bench:
        assert bench.rows("OptionList")[0].startswith("Continue the draft")
        await bench.press("down", "enter")
        assert bench.builder.config["zero_optimization"]["stage"] == 2
        await bench.press("f2")
    async with Bench() as bench:
        await bench.press("enter")
        assert bench.builder.config["zero_optimization"]["stage"] == 3
        assert bench.marked == ['"stage": 3']
        await bench.press("f7", "enter")
    async with Bench() as bench:
        assert isinstance(bench.screen, BuilderScreen)


@in_loop
async def test_a_choice_between_draft_and_file_can_be_left(folder):
    async with Bench(draft=True) as bench:
        await bench.press("ctrl+q")
    assert bench.app.return_value == "Nothing was written."


@pytest.mark.parametrize(
    ("keys", "told", "left"),
    [
        (["\x11"], "Nothing was written.", []),
        (["\x1b[18~", "\r"], "Saved. deepspeed.initialize takes deepspeed.json as it is.", ["deepspeed.json"]),
    ],
    ids=["left", "saved"],
)
def test_alone_in_a_terminal_it_says_what_came_of_it(folder, keys, told, left):
    terminal = Terminal(CLI, "deepspeed", cwd=folder, TERM="xterm-256color")
    try:
        terminal.read_until("Pictures per GPU")
        for key in keys:
            terminal.type(key)
            terminal.quiet(0.5)
        terminal.read_until(told)
        assert terminal.wait() == 0
    finally:
        terminal.close()
    assert [path.name for path in folder.iterdir()] == left


def test_what_was_changed_survives_a_lost_line(folder):
    for expected in ("Pictures per GPU", "Continue the draft"):
        terminal = Terminal(CLI, "deepspeed", cwd=folder, TERM="xterm-256color")
        try:
            terminal.read_until(expected)
            terminal.quiet(0.5)
            for keys in ("\r", "7", "\r"):
                terminal.type(keys)
                terminal.quiet(0.3)
            terminal.hang_up()
            assert terminal.process.wait(20) == ExitCode.HANGUP
        finally:
            terminal.close()


def test_where_it_cannot_be_saved_is_said(folder):
    Path("acc.yaml").write_text("distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2}\n")
    terminal = Terminal(CLI, "deepspeed", "acc.yaml", cwd=folder, TERM="xterm-256color")
    try:
        terminal.read_until("cannot hold all of")
        terminal.type("\x11")
        assert terminal.wait() == 0
    finally:
        terminal.close()


def test_it_ends_when_it_is_told_to(folder):
    terminal = Terminal(CLI, "deepspeed", cwd=folder, TERM="xterm-256color")
    try:
        terminal.read_until("Pictures per GPU")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.wait() == ExitCode.CANCELLED
    finally:
        terminal.close()
