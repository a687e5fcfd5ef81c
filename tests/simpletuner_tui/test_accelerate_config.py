"""accelerate-config: one answer a line, exactly accelerate's file, and nothing overwritten unseen."""

import io
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.runs import CLI, cli
from harness.terminal import Terminal
from launcher.errors import ExitCode, InvalidInputError
from simpletuner_tui.documents import accelerates_places
from simpletuner_tui.frontends.accessible import Lines, QuitWalkError, walk
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.file import accelerate_file, file_bytes, read_file
from simpletuner_tui.questions.accelerate.recover import answers_in, deepspeed_answers_in
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.session import Session

PROBES = {"deepspeed": True, "transformers": True}
DEFAULTS = file_bytes(accelerate_file(resolve(ACCELERATE, {}, PROBES)), "x.yaml")
ENTER = "\n" * 8
"""An empty line for each question of accelerate's shortest walk."""
TWO_GPUS = "\nmulti-GPU\n\n\n\n\n\n\n2\n0,1\n\nbf16\n"
MANY = settings(max_examples=75, deadline=None)


def configure(*arguments: str, cwd: Path, stdin: str = ENTER, **environment: str):
    return cli("accelerate-config", *arguments, cwd=cwd, stdin=stdin, **environment)


def saved(done) -> str:
    """What it says it saved, last."""
    assert done.returncode == ExitCode.OK, done.stderr
    return done.stdout.splitlines()[-1]


# what is written


def test_empty_lines_take_every_default(tmp_path):
    done = configure("--accessible", "--config_file", "a.yaml", cwd=tmp_path)
    assert saved(done) == "accelerate configuration saved at a.yaml"
    assert (tmp_path / "a.yaml").read_bytes() == DEFAULTS


def test_one_answer_a_line_answers_everything(tmp_path):
    configure("--config_file", "a.yaml", cwd=tmp_path, stdin=TWO_GPUS)
    content = yaml.safe_load((tmp_path / "a.yaml").read_bytes())
    assert (content["distributed_type"], content["num_processes"]) == ("MULTI_GPU", 2)
    assert (content["gpu_ids"], content["mixed_precision"]) == ("0,1", "bf16")


def test_a_name_that_ends_in_json_gets_json(tmp_path):
    saved(configure("--config_file", "a.json", cwd=tmp_path))
    text = (tmp_path / "a.json").read_text()
    assert text == json.dumps(yaml.safe_load(DEFAULTS), indent=2, sort_keys=True) + "\n"


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HOME": "~/hub"}, "home/hub/accelerate/default_config.yaml"),
        ({"XDG_CACHE_HOME": "cache"}, "cache/huggingface/accelerate/default_config.yaml"),
        ({}, "home/.cache/huggingface/accelerate/default_config.yaml"),
    ],
)
def test_accelerates_own_place_is_made_when_no_other_is_named(tmp_path, monkeypatch, variables, place):
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    done = configure(cwd=tmp_path, HOME=str(tmp_path / "home"), **variables)
    assert (tmp_path / place).read_bytes() == DEFAULTS
    assert saved(done).endswith(place)
    # accelerate looks there too
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert accelerates_places()[0].is_relative_to(tmp_path) or accelerates_places()[0] == Path(place)


# what is refused


@pytest.mark.parametrize("answered", range(8))
def test_input_that_ends_early_names_the_question_and_writes_nothing(tmp_path, answered):
    asked = [question.id for question in resolve(ACCELERATE, {}, PROBES).asked]
    done = configure("--config_file", "a.yaml", cwd=tmp_path, stdin="\n" * answered)
    assert done.returncode == ExitCode.USAGE
    assert f"{asked[answered]} had no answer" in done.stderr
    assert done.stderr.count("error:") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_told_before_the_first_question(tmp_path):
    done = configure("--config_file", "nowhere/a.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "nowhere is not a folder" in done.stderr
    done = configure("--config_file", str(tmp_path), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")


def test_a_folder_that_cannot_be_written_is_told_before_the_first_question(tmp_path):
    done = configure("--config_file", "/proc/a.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "/proc/a.yaml cannot be written" in done.stderr


def test_quit_writes_nothing(tmp_path):
    done = configure("--config_file", "a.yaml", cwd=tmp_path, stdin="\nquit\n")
    assert saved(done) == "Nothing was written."
    assert list(tmp_path.iterdir()) == []


def test_what_accelerate_refuses_ends_the_input_with_its_words(tmp_path):
    done = configure("--config_file", "a.yaml", cwd=tmp_path, stdin="\nmulti-GPU\n" + "\n" * 20)
    assert done.returncode == ExitCode.USAGE
    assert "accelerate.stop_one_gpu had no answer" in done.stderr
    assert "only using 1 GPU on a single machine" in " ".join(done.stdout.split())
    assert list(tmp_path.iterdir()) == []


# what is there already


def test_the_same_content_is_not_written_again(tmp_path):
    (tmp_path / "a.yaml").write_bytes(DEFAULTS)
    before = (tmp_path / "a.yaml").stat().st_mtime_ns
    assert "holds exactly this already" in saved(configure("--config_file", "a.yaml", cwd=tmp_path))
    assert (tmp_path / "a.yaml").stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_another_content_is_shown_and_left_when_nobody_can_be_asked(tmp_path):
    (tmp_path / "a.yaml").write_text("mine: true\n")
    done = configure("--config_file", "a.yaml", cwd=tmp_path)
    assert done.returncode == ExitCode.REFUSED_TO_OVERWRITE
    assert "-mine: true\n+compute_environment: LOCAL_MACHINE\n" in done.stdout
    assert "--force" in done.stderr
    assert (tmp_path / "a.yaml").read_text() == "mine: true\n"


def test_force_replaces_it_and_keeps_a_backup(tmp_path):
    (tmp_path / "a.yaml").write_text("mine: true\n")
    done = configure("--config_file", "a.yaml", "--force", cwd=tmp_path)
    assert saved(done) == "accelerate configuration saved at a.yaml"
    assert "-mine: true" in done.stdout
    assert (tmp_path / "a.yaml").read_bytes() == DEFAULTS
    assert (tmp_path / "a.yaml.bak").read_text() == "mine: true\n"


@pytest.mark.parametrize(("typed", "replaced"), [("y", True), ("", False)])
def test_a_person_is_asked(tmp_path, typed, replaced):
    content = DEFAULTS.replace(b"gpu_ids: all", b"gpu_ids: '3'")
    (tmp_path / "a.yaml").write_bytes(content)
    terminal = Terminal(CLI, "accelerate-config", "--accessible", "--config_file", "a.yaml", cwd=tmp_path)
    try:
        terminal.read_until("answers, in a.yaml")
        terminal.read_until("[1] > ")
        terminal.type("\n")
        terminal.read_until("1/8")
        for _ in range(7):
            terminal.type("\n")
        terminal.read_until("8/8")
        terminal.type("bf16\n")
        terminal.read_until("Replace it, and keep it as a.yaml.bak? [no] > ")
        terminal.type(f"{typed}\n")
        code = terminal.wait()
    finally:
        terminal.close()
    # Its answers were taken as defaults: the device is still the third.
    assert code == (ExitCode.OK if replaced else ExitCode.REFUSED_TO_OVERWRITE)
    changed = content.replace(b"mixed_precision: 'no'", b"mixed_precision: bf16")
    assert (tmp_path / "a.yaml").read_bytes() == (changed if replaced else content)
    assert (tmp_path / "a.yaml.bak").exists() is replaced


# a file to start from


def test_a_file_gives_its_answers_as_defaults(tmp_path):
    configure("--config_file", "a.yaml", cwd=tmp_path, stdin=TWO_GPUS)
    done = configure("--from", "a.yaml", "--config_file", "b.yaml", cwd=tmp_path, stdin="rest\n")
    assert saved(done) == "accelerate configuration saved at b.yaml"
    assert (tmp_path / "b.yaml").read_bytes() == (tmp_path / "a.yaml").read_bytes()
    done = configure("--from", "a.yaml", "--config_file", "c.yaml", cwd=tmp_path)
    assert "[multi-GPU, from a.yaml] > " in done.stdout


@pytest.mark.parametrize("content", [b"- a\n", b"{", b"\xff\xfe\x00", b"a: 2001-99-99", b"[" * 5000, None])
def test_a_file_that_is_none_of_accelerates_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "a.yaml").write_bytes(content)
    done = configure("--from", "a.yaml", "--config_file", "b.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert "a.yaml" in done.stderr and "should not have happened" not in done.stderr


def test_values_that_are_no_answers_are_left_to_their_defaults():
    content = {"distributed_type": "MULTI_GPU", "num_processes": -1, "machine_rank": 9, "gpu_ids": 1, "nobody": [1]}
    answers = answers_in(content, PROBES)
    assert answers["accelerate.machine"] == "MULTI_GPU"
    assert not {"accelerate.num_processes", "accelerate.machine_rank", "accelerate.gpu_ids"} & set(answers)
    assert answers_in({"gpu_ids": 3}, PROBES)["accelerate.gpu_ids"] == "3"


@pytest.mark.parametrize(
    ("content", "machine"),
    [
        ({"distributed_type": "DEEPSPEED"}, "NO"),
        ({"distributed_type": "DEEPSPEED", "num_processes": 2}, "MULTI_GPU"),
        ({"distributed_type": "DEEPSPEED", "num_processes": 2, "use_cpu": True}, "NO"),
        ({"distributed_type": "DEEPSPEED", "num_machines": 2}, "MULTI_GPU"),
        ({"distributed_type": "FSDP"}, "MULTI_GPU"),
        ({"distributed_type": "MEGATRON_LM"}, "MULTI_GPU"),
    ],
)
def test_the_machine_behind_a_plugin_is_the_likeliest(content, machine):
    assert answers_in(content, PROBES)["accelerate.machine"] == machine


OPTIMIZER = {"type": "AdamW", "params": {"lr": 3e-6, "betas": [0.9, 0.95], "eps": 1e-7, "weight_decay": 0.1}}
SCHEDULER = {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 20, "warmup_type": "linear"}}


def test_optimizer_and_scheduler_beside_accelerates_keys_are_answers_about_deepspeed():
    content = {"deepspeed_config": {"zero_stage": 2, "optimizer": OPTIMIZER, "scheduler": SCHEDULER}}
    assert deepspeed_answers_in(content)[0] == {
        "deepspeed.optimizer.type": "AdamW",
        "deepspeed.optimizer.params.betas": [0.9, 0.95],
        "deepspeed.optimizer.params.eps": 1e-7,
        "deepspeed.optimizer.params.weight_decay": 0.1,
        "deepspeed.scheduler.type": "WarmupDecayLR",
        "deepspeed.scheduler.params.warmup_type": "linear",
        "training.learning_rate": 3e-6,
        "training.lr_warmup_steps": 20,
    }
    assert deepspeed_answers_in({"deepspeed_config": {"optimizer": "AdamW"}}) == ({}, ())
    assert deepspeed_answers_in({"deepspeed_config": None}) == ({}, ())


def test_what_no_question_asks_of_an_optimizer_is_named():
    optimizer = {"type": "AdamW", "params": {"torch_adam": True, 7: {"a.b": 1}}}
    answers, others = deepspeed_answers_in({"deepspeed_config": {"optimizer": optimizer}})
    assert answers == {"deepspeed.optimizer.type": "AdamW"}
    assert others == ("optimizer.params.torch_adam", "optimizer.params.7.a.b")


def test_a_file_with_an_optimizer_is_told_that_accelerate_asks_of_none(tmp_path):
    content = {**yaml.safe_load(DEFAULTS), "deepspeed_config": {"optimizer": OPTIMIZER}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    done = configure("--from", "a.yaml", "--config_file", "b.yaml", cwd=tmp_path)
    assert "a.yaml says more about DeepSpeed's optimizer or scheduler than accelerate asks" in done.stderr
    assert (tmp_path / "b.yaml").read_bytes() == DEFAULTS


# whatever is typed


def walked(content: bytes) -> Session:
    session = Session(ACCELERATE, {}, PROBES)
    with suppress(InvalidInputError, QuitWalkError):
        walk(Lines(io.TextIOWrapper(io.BytesIO(content), "utf-8"), io.StringIO()), session)
    return session


ids = [question.id for question in ACCELERATE if question.asks]
words = st.sampled_from(
    [
        *(b"", b"yes", b"no", b"y", b"2", b"3", b"back", b"rest", b"?", b"TPU", b"multi-GPU", b"multi-CPU", b"fp8"),
        *(b"AWS (Amazon SageMaker)", b"1e8", b"1e999", b"-1", b"nan", b"9" * 5000, b"x" * 5000, b"\xff\xfe", b"\0"),
        *("\u202eabc".encode(), "８".encode(), b"\x1b[31m", b"2 \t", b"~x", b"x,y", b"quit"),
    ]
)


@given(typed=st.lists(words | st.binary(max_size=20), max_size=60))
@MANY
def test_no_bytes_end_in_a_traceback(typed):
    session = walked(b"\n".join(typed) + b"\n")
    if session.resolved.stop is None and not session.resolved.faults:
        content = accelerate_file(session.resolved)
        assert yaml.safe_load(file_bytes(content, "x.yaml")) == json.loads(file_bytes(content, "x.json"))


@given(typed=st.lists(words.filter(lambda word: word not in (b"back", b"quit")), max_size=40))
@MANY
def test_back_and_forth_changes_nothing(typed):
    session = walked(b"\n".join(typed) + b"\n")
    values, answers, here = dict(session.resolved.values), session.answers, session.current
    while session.back():
        pass
    while session.current is not here:
        if session.current.kind is Kind.NOTE:
            session.next()
        else:
            session.accept_default()
    assert session.resolved.values == values
    assert session.answers == answers


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["DEEPSPEED", "XLA", "no"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
keys = sorted({target.path.split(".")[0] for question in ACCELERATE for target in question.sets})
inner = sorted({target.path.split(".")[-1] for question in ACCELERATE for target in question.sets})
documents = st.dictionaries(
    st.sampled_from(keys) | st.text(), values | st.dictionaries(st.sampled_from(inner), values, max_size=4), max_size=8
)


@given(content=documents)
@MANY
def test_any_file_gives_valid_answers_or_none(content):
    answers = answers_in(content, PROBES)
    assert not set(resolve(ACCELERATE, answers, PROBES).faults) & set(answers)
    assert set(answers) <= set(ids)
    deepspeed_answers_in(content)


@given(content=st.binary(max_size=200))
@MANY
def test_any_bytes_as_a_file(content):
    with tempfile.TemporaryDirectory() as name, suppress(InvalidInputError):
        (Path(name) / "x.yaml").write_bytes(content)
        answers_in(read_file(Path(name) / "x.yaml"), PROBES)


def test_a_closed_stdin_has_no_answers(tmp_path):
    code = os.system(f"cd {tmp_path} && {CLI} accelerate-config --config_file a.yaml <&- >/dev/null 2>&1")
    assert os.waitstatus_to_exitcode(code) == ExitCode.USAGE
