"""What a walk can start from: the draft, accelerate's file, and where each answer then comes from."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from harness.runs import CLI
from harness.terminal import Terminal
from simpletuner_tui.documents import accelerate_document, run_document
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.session import Session
from simpletuner_tui.starting import starts

OPTIMIZER = {"type": "Lion", "params": {"lr": 3e-6, "betas": [0.9, 0.95], "torch_adam": True, "weight_decay": "auto"}}
FILE = {
    "distributed_type": "DEEPSPEED",
    "num_processes": 1,
    "mixed_precision": "bf16",
    "deepspeed_config": {"zero_stage": 3, "offload_optimizer_device": "cpu", "optimizer": OPTIMIZER},
}
ANSWERS_OF_FILE = {
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 3,
    "accelerate.offload_optimizer": "cpu",
    "accelerate.mixed_precision": "bf16",
    "deepspeed.optimizer.type": "Lion",
    "deepspeed.optimizer.params.betas": [0.9, 0.95],
    "training.learning_rate": 3e-6,
}


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "default_config.yaml"
    path.write_text(yaml.safe_dump(FILE))
    return path


def offered(tmp_path, *sources: Path, draft: dict | None = None, presets: bool = False):
    drafts = Drafts(tmp_path / "draft.json")
    if draft:
        drafts.keep(draft, "training.seed")
    return starts(replace(run_document(), sources=sources, presets=presets), drafts, tmp_path)


def test_without_anything_to_start_from_nothing_is_asked(tmp_path):
    assert offered(tmp_path, tmp_path / "default_config.yaml") == ()


def test_a_file_that_cannot_be_read_is_passed_over_for_one_that_can(tmp_path, file):
    damaged = tmp_path / "damaged.yaml"
    damaged.write_bytes(b"\xff\xfe\0")
    assert offered(tmp_path, damaged) == ()
    start, anew = offered(tmp_path, damaged, file)
    assert str(file) in start.details
    assert anew.title == "Start anew"


def test_the_draft_comes_first(tmp_path, file):
    titles = [start.title for start in offered(tmp_path, file, draft={"training.seed": 7})]
    assert titles == ["Continue the draft", "Start from accelerate's file", "Start anew"]


def test_presets_come_after_what_is_there_and_lead_back(tmp_path, file):
    offer = offered(tmp_path, file, draft={"training.seed": 7}, presets=True)
    titles = ["Continue the draft", "Start from accelerate's file", "Start from a preset", "Start anew"]
    assert [start.title for start in offer] == titles
    presets = offer[2].further()
    assert (presets[0].title, presets[-1].title) == ("fits-8GB", "Back")
    assert [start.title for start in presets[-1].further()] == titles


def test_with_nothing_but_presets_to_start_from_enter_starts_anew(tmp_path):
    assert [start.title for start in offered(tmp_path, presets=True)] == ["Start anew", "Start from a preset"]


def test_a_file_gives_its_answers_with_its_name_and_says_what_it_does_not_give(tmp_path, file):
    session = Session(REGISTRY, {})
    remarks = offered(tmp_path, file)[0].begin(session)
    assert {key: session.resolved.values[key] for key in ANSWERS_OF_FILE} == ANSWERS_OF_FILE
    questions = {question.id: question for question in session.resolved.asked}
    assert {session.origin(questions[key]) for key in ANSWERS_OF_FILE} == {"the answer in default_config.yaml"}
    assert session.origin(questions["training.seed"]) == "the default"
    assert len(remarks) == 2
    assert remarks[0].startswith("deepspeed.optimizer.params.weight_decay is not taken over from default_config.yaml")
    assert remarks[1].startswith("optimizer.params.torch_adam is not taken over")
    assert session.current is REGISTRY[0]


def test_an_answer_of_a_file_is_the_persons_own_once_it_is_changed(tmp_path, file):
    session = Session(REGISTRY, {"training.pretrained_model_name_or_path": "m", "training.instance_data_dir": "p"})
    offered(tmp_path, file)[0].begin(session)
    session.go_to("accelerate.zero_stage")
    question = session.current
    session.answer(3)
    assert session.source_of(question) == "default_config.yaml"
    session.go_to("accelerate.zero_stage")
    session.answer(2)
    assert session.origin(question) == "your answer"
    session.go_to("accelerate.zero_stage")
    session.clear()
    assert session.origin(question).startswith("the default")


def test_accelerates_places_are_looked_at_for_both_documents(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    own = tmp_path / "accelerate/default_config.yaml"
    assert run_document().sources[0] == own
    assert accelerate_document(Path("a.yaml")).sources[:2] == (Path("a.yaml"), own)
    assert accelerate_document(None).path == own


@pytest.fixture
def home(tmp_path, file, monkeypatch) -> Path:
    (tmp_path / "hf/accelerate").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    file.rename(tmp_path / "hf/accelerate/default_config.yaml")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PROMPT_TOOLKIT_NO_CPR", "1")
    return tmp_path


LED_TO_THE_RATE = (
    ("Which SDXL model", "./m"),
    ("Which VAE", ""),
    ("Where does a single", ""),
    ("What should be trained", ""),
    ("Take pictures from several", ""),
    ("Which folder holds", "./p"),
    ("At which resolution", ""),
    ("Where should latents", ""),
    ("Are captions elsewhere", ""),
    ("Change how pictures are cropped", ""),
    ("Change how the loss is formed", ""),
    ("How many optimizer steps", ""),
    ("How many pictures per GPU", ""),
)
"""What is asked before the learning rate, and what is typed."""


@pytest.mark.parametrize(
    ("option", "rows", "from_file"),
    [
        ("--accessible", "\n", "[3e-06, from default_config.yaml] > "),
        ("--plain", "\r", "[3e-06, from default_config.yaml]"),
        ("", "\r", "default_config.yaml"),
    ],
)
def test_every_front_end_offers_accelerates_file_and_names_it(home, option, rows, from_file):
    """Then a dropped line keeps the draft, and the next walk begins with it."""
    enter = rows
    options = [option] if option else []
    terminal = Terminal(CLI, *options, cwd=home / "here", TERM="xterm-256color")
    try:
        terminal.read_until("Start from accelerate's file")
        terminal.type(enter)
        for asked, typed in LED_TO_THE_RATE:
            terminal.read_until(asked)
            terminal.quiet(0.3)
            terminal.forget()
            terminal.type(f"{typed}{enter}")
        terminal.read_until("Which learning rate")
        terminal.read_until(from_file)
        terminal.hang_up()
        assert terminal.wait() == 129
    finally:
        terminal.close()
    again = Terminal(CLI, *options, cwd=home / "here", TERM="xterm-256color")
    try:
        again.read_until("Continue the draft")
        again.type(enter)
        again.read_until("Which learning rate")
    finally:
        again.close()


def test_a_pipe_is_offered_nothing_and_leaves_no_draft(home):
    code = os.system(f"cd {home}/here && printf './m\\nquit\\n' | {CLI} --accessible > {home}/said")
    assert code == 0
    said = (home / "said").read_text()
    assert "Start from" not in said
    assert not (home / "state/simpletuner-tui").exists()
