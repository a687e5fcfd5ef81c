"""The DeepSpeed builder in lines: fields in turn, commands, saving, and whatever a person types."""

import io
import json
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.runs import CLI
from harness.terminal import Terminal
from launcher.deepspeed.fields import FIELDS
from launcher.deepspeed.installed import TESTED
from launcher.deepspeed.run_facts import RunFacts
from launcher.errors import InvalidInputError, RefusedToOverwriteError
from simpletuner_tui.builder.editing import Editing
from simpletuner_tui.builder.model import Builder
from simpletuner_tui.frontends.build_commands import USAGE
from simpletuner_tui.frontends.build_lines import BuilderLines
from simpletuner_tui.frontends.building import hold

CONFIG = {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}, "bf16": {"enabled": True}}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def talked(*typed: str, config=CONFIG, full: bool = False) -> tuple[Builder, str]:
    """Holds the talk with these lines; the builder and everything that was said."""
    builder, said = Builder(config, RunFacts(), TESTED), io.StringIO()
    reads = io.StringIO("".join(f"{line}\n" for line in typed))
    hold(Editing(builder, Path("deepspeed.json"), None, full=full), BuilderLines(reads, said))
    return builder, said.getvalue()


def test_each_basic_field_is_asked_with_all_there_is_to_say_about_it():
    _, said = talked(*[""] * 20, "save")
    for path, field in FIELDS.items():
        assert (f"  {path}\n" in said) == field.basic
    assert "3/20  gradient_clipping\n    Largest global gradient norm.\n    Now 1.0, filled in: the run's" in said
    assert (
        "    DeepSpeed's default: 1.0; at least 0.\n    0 turns clipping off; left out it is 1.0, not off.\n[1.0"
        in said
    )
    assert "    No effect now: only at stage 3; the stage is 2.\n" in said
    assert "ZeRO\n----\n6/20  zero_optimization.stage\n" in said
    assert said.endswith("Saved. deepspeed.initialize takes deepspeed.json as it is.\n")


def test_every_field_is_asked_when_all_are_wanted():
    _, said = talked(*[""] * len(FIELDS), "save", full=True)
    assert all(f"/{len(FIELDS)}  {path}\n" in said for path in FIELDS)


def test_what_is_typed_is_saved_and_rows_are_called_by_number_or_words():
    builder, said = talked("2", "", "0.5", "3", "left out", "3", "rest", "save")
    saved = json.loads(Path("deepspeed.json").read_text())
    assert saved == builder.config
    assert saved["train_micro_batch_size_per_gpu"] == 2
    assert saved["gradient_clipping"] == 0.5
    assert saved["bf16"] == {"enabled": False}, "rows are numbered from the one that leaves it out"
    assert saved["zero_optimization"]["stage"] == 3, "rows that are numbers are called by themselves"
    assert "    1. left out\n    2. true\n    3. false\n[true] > 3\n" in said
    assert "    left out\n    0 (not here: zero_optimization.offload_optimizer.device: the optimizer" in said


def test_an_error_is_told_at_the_field_and_what_a_value_brings():
    builder, said = talked("x", "0", "8", "rest", "set lr 0", "quit")
    assert "[1, filled in] > x\n    That does not do: must be a number, not 'x'.\n[1, filled in] > 0\n" in said
    assert "That does not do: must be at least 1 picture, not 0." in said
    assert "It brings: at a learning rate of 0 nothing is learnt" in said
    assert builder.config["train_micro_batch_size_per_gpu"] == 8
    assert said.endswith("Nothing was written.\n")
    assert not Path("deepspeed.json").exists()


def test_back_goes_to_the_field_before_and_from_the_end():
    _, said = talked("back", "", "back", "", "rest", "back", "rest", "save")
    assert "This is the first field." in said
    assert said.count("1/20  train_micro") == 2
    assert said.count("20/20  ") == 1


def test_any_field_is_set_asked_or_left_out_by_name():
    builder, said = talked(
        "set aio.queue_depth 64",
        "set wall_clock_breakdown",
        "true",
        "set lamb 3",
        "set pin_memory true",
        "set wandb.project save it",
        "unset offload_optimizer",
        "unset zero_optimization.offload_optimizer.device",
        "unset",
        "rest",
        "unset",
        "save",
    )
    config = builder.config
    assert (config["aio"], config["wall_clock_breakdown"]) == ({"queue_depth": 64}, True)
    assert config["wandb"] == {"project": "save it"}
    assert "offload_optimizer" not in config["zero_optimization"]
    assert "no field is called lamb; search WORD finds one" in said
    assert "several fields are called pin_memory; is it zero_optimization.offload_optimizer.pin_memory or" in " ".join(
        said.split()
    )
    assert "no field is called offload_optimizer; is it" in said
    assert "name the field: unset FIELD" in said
    assert said.count("  train_micro_batch_size_per_gpu\n") == 2, "asked again after the one by name"


def test_a_key_that_is_not_known_is_kept_or_taken_out():
    builder, said = talked("rest", "set mine 5", "set mine", "9", "", "set mine", "2", "quit", config={"mine": 1})
    assert "mine is not edited here; unset takes it out" in said
    assert "    1. keep it as it stands\n    2. take it out\n[keep] > 9\n    That does not do: type a number" in said
    assert "mine" not in builder.config


def test_what_there_is_is_searched_shown_and_reviewed():
    _, said = talked(
        "search gpudirect", "search nothing like it", "search zero", "show", "review", "problems", "?", "quit"
    )
    assert "    aio.use_gds: Read straight" in said
    assert "No field is about nothing like it." in said
    assert "    and " in said
    assert '{\n  "zero_optimization": {\n    "stage": 2,' in said
    assert "    gradient_clipping: 1.0, filled in\n" in said
    assert "filled in: gradient_clipping: 1.0 (the run's gradient_clipping)" in said
    assert said.count("Nothing speaks against it.") == 2
    assert all(usage in said for usage, _ in USAGE)


def test_a_template_is_used_after_its_differences_were_shown():
    builder, said = talked(
        "templates", "use none", "use stage-2-cpu", "no", "use stage-2-cpu", "yes", "use stage-2-cpu", "quit"
    )
    assert "Corrected: train_batch_size is left out: 8 holds on one GPU only, and is computed." in " ".join(
        said.split()
    )
    assert "no template is called none; there are stage-2-cpu" in said
    assert "changed: gradient_accumulation_steps: 1 to 4" in said
    assert "stage-2-cpu says what is there already." in said
    assert builder.config["gradient_accumulation_steps"] == 4


def test_problems_are_listed_at_the_end_and_errors_asked_about():
    wrong = {**CONFIG, "fp16": {"enabled": True}}
    _, said = talked("rest", "save", "no", "save", "yes", config=wrong)
    assert "1 error, " in said
    assert "    error: " in said
    assert said.count("DeepSpeed would not start with it: 1 error. Save it all the same? [no] > ") == 2
    assert Path("deepspeed.json").exists()


def test_a_file_that_is_there_is_replaced_after_its_diff_and_kept_beside_it():
    Path("deepspeed.json").write_text("{}")
    _, said = talked("rest", "save", "no", "save other/x.json", "save", "yes")
    assert "--- deepspeed.json\n+++ new\n" in said
    assert "other is not a folder; make it or choose another" in said
    assert Path("deepspeed.json.bak").read_text() == "{}"
    _, said = talked("save")
    assert said.endswith("deepspeed.json holds exactly this already. Nothing was written.\n")


def test_input_that_ends_writes_nothing_and_says_what_would():
    with pytest.raises(
        InvalidInputError, match=r"ended before the configuration was saved.*say rest and save; --check"
    ):
        talked("2")
    Path("deepspeed.json").write_text("{}")
    with pytest.raises(RefusedToOverwriteError, match="a line yes after save replaces it"):
        talked("save")
    assert Path("deepspeed.json").read_text() == "{}"


TYPED = (
    st.text()
    | st.sampled_from(["", "back", "rest", "?", "unset", "review", "show", "templates", "1", "2", "x", "-1", "1e400"])
    | st.sampled_from(["cpu", "nvme", "Lion", "9" * 5000, "\ud800", "a\0b", "\x1b[31m", "left out", "yes"])
    | st.builds(
        "{} {} {}".format,
        st.sampled_from(["set", "unset", "search", "use", ""]),
        st.sampled_from([*FIELDS, "lr", "mine"]),
        st.text(),
    )
    | st.builds(
        "set {} {}".format, st.sampled_from([*FIELDS]), st.sampled_from(["true", "0", "1e9", "auto", "none", "a, b"])
    )
)


@given(typed=st.lists(TYPED, max_size=25), full=st.booleans())
@settings(max_examples=75, deadline=None)
def test_any_lines_end_in_a_value_or_a_told_fault(typed, full):
    builder, said = Builder({**CONFIG, "mine": {"a": [1]}}, RunFacts(), TESTED), io.StringIO()
    lines = BuilderLines(io.StringIO("\n".join(line.replace("\n", " ") for line in typed) + "\nquit\n"), said)
    with suppress(RefusedToOverwriteError):
        hold(Editing(builder, Path("deepspeed.json"), None, full=full), lines)
    said.getvalue().encode()
    json.dumps(builder.config, allow_nan=False, ensure_ascii=False).encode()
    again = Builder(builder.config, RunFacts(), TESTED)
    assert again.json == builder.json


# the command


def ran(*arguments: str, typed: str = "", **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [CLI, "deepspeed", *arguments],
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_answers_from_a_pipe_edit_a_config_json_in_place():
    Path("config.json").write_text('{\n  "seed": 1,\n  "deepspeed_config": "zero2"\n}\n')
    done = ran("config.json", typed="rest\nset stage 3\nsave\nyes\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("Saved in config.json, as its deepspeed_config.\n")
    content = Path("config.json").read_text()
    assert content.startswith(
        '{\n  "seed": 1,\n  "deepspeed_config": {\n    "zero_optimization": {\n      "stage": 3\n'
    )
    assert Path("config.json.bak").read_text() == '{\n  "seed": 1,\n  "deepspeed_config": "zero2"\n}\n'
    assert not Path("state").exists(), "a pipe keeps no draft"


def test_accelerates_part_is_saved_as_a_file_of_its_own_and_that_is_said():
    Path("acc.yaml").write_text(
        "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2}\nmixed_precision: bf16\n"
    )
    done = ran("acc.yaml", typed="save\n")
    assert "acc.yaml cannot hold all of DeepSpeed's: it is left as it is" in done.stdout.replace("\n", " ")
    assert json.loads(Path("deepspeed.json").read_text())["zero_optimization"]["stage"] == 2
    assert "zero_stage" in Path("acc.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "typed", "code", "words"),
    [
        ((), "", 2, "the input ended before the configuration was saved; nothing was written"),
        ((), "quit\n", 0, ""),
        (("-",), "{}", 2, "- is for --check"),
        (("there.json",), "save\n", 4, "there.json is there already and differs as shown"),
        (("x" * 300,), "save\nquit\n", 0, ""),
        (("broken.json",), "", 2, "broken.json ends too early"),
        (("--template", "x"), "", 2, "no template is called x"),
        (("--run", "x=1"), "", 2, "--run x: no such field"),
    ],
)
def test_every_end_has_its_code(arguments, typed, code, words):
    Path("there.json").write_text("{}")
    Path("broken.json").write_text("{")
    done = ran(*arguments, typed=typed)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in Path().iterdir()) == ["broken.json", "there.json"]


def test_a_template_begins_it():
    assert ran("mine.json", "--template", "stage-2-cpu", typed="save\n").returncode == 0
    assert json.loads(Path("mine.json").read_text())["gradient_accumulation_steps"] == 4


def test_output_of_ascii_only_gets_what_it_can_show():
    Path("ds.json").write_text('{"größe": 1}')
    done = ran("ds.json", typed="show\nset wandb.project ×\nquit\n", PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0
    assert '"gr\\xf6\\xdfe": 1' in done.stdout


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"ACCESSIBLE": "1"}])
def test_a_terminal_that_cannot_be_drawn_on_gets_lines_and_keeps_a_draft(folder, environment):
    Path("ds.json").write_text(json.dumps(CONFIG))

    def opened() -> Terminal:
        return Terminal(CLI, "deepspeed", "ds.json", cwd=folder, **environment)

    first = opened()
    try:
        first.read_until("[1, filled in] > ")
        first.type("4\r")
        first.read_until("2/20")
        first.hang_up()
        assert first.process.wait(20) == 129
    finally:
        first.close()
    second = opened()
    try:
        second.read_until("Continue the draft? [yes] > ")
        second.type("\r")
        second.read_until("[4] > ")
        second.type("save\r")
        second.read_until("keep it as ds.json.bak? [no] > ")
        second.type("yes\r")
        assert second.wait() == 0
        assert "Traceback" not in second.seen
    finally:
        second.close()
    assert json.loads(Path("ds.json").read_text())["train_micro_batch_size_per_gpu"] == 4
    third = opened()
    try:
        third.read_until("[4] > ")
        assert "draft" not in third.seen
        third.interrupt()
        assert third.wait() == 130
    finally:
        third.close()
