"""The same answers through our registry and the installed accelerate: every prompt, every note, every byte saved."""

import json
from pathlib import Path

import pytest
import yaml

from harness.accelerate_walks import PROBES, Walked, accelerate_walks, difference, random_walk, walk
from harness.runs import cli
from launcher.errors import ExitCode
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.file import accelerate_file, file_bytes
from simpletuner_tui.questions.accelerate.recover import answers_in
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Typed
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.session import Session

HERE = Path(__file__).parent
WALKS = 1000
MANY, AT_ONCE = 24_000, 4_000
ASKED_SINCE = {"accelerate.use_moe"}
WORDED_THEN = {"accelerate.mixed_precision": "Do you wish to use FP16 or BF16 (mixed precision)?"}
"""Where 1.15.0 differs from the accelerate of the document."""
MENUS = {
    question.id: question
    for question in ACCELERATE
    if question.kind is Kind.MENU and isinstance(question.choices, tuple)
}
UNREACHABLE = {
    "tpu_downcast_bf16 = _ask_field(",
    '"Should `torch.float` be cast as `bfloat16` and `torch.double` remain `float32` on TPUs?", default="no"',
}
"""It needs a TPU in bf16, and a TPU fixes the precision to no."""


@pytest.fixture(scope="module")
def walks() -> list[Walked]:
    return [random_walk(seed) for seed in range(WALKS)]


@pytest.fixture(scope="module")
def reference(walks):
    return accelerate_walks(walks, trace=True)


def differences(walks, theirs) -> list[str]:
    pairs = zip(walks, theirs["walks"], strict=True)
    return [f"walk {number}: {found}" for number, pair in enumerate(pairs) if (found := difference(*pair))]


def test_random_walks_ask_show_and_save_what_accelerate_does(walks, reference):
    assert differences(walks, reference) == []


def test_the_walks_meet_every_question_note_and_stop(walks):
    met = {question.id for walked in walks for question in walked.session.resolved.asked}
    assert [question.id for question in ACCELERATE if question.id not in met] == []
    chosen = {(key, value) for walked in walks for key, value in walked.session.resolved.values.items() if key in MENUS}
    assert {(key, row.value) for key, question in MENUS.items() for row in question.choices} - chosen == set()


def test_the_walks_run_every_line_of_accelerate_that_can_be_reached(reference):
    assert set(reference["never ran"].values()) == UNREACHABLE


def test_a_sagemaker_dynamo_mode_is_asked_though_accelerate_fails_at_it(reference):
    assert "unsupported operand" in reference["stock menu"]
    typed = {"environment": "AWS (Amazon SageMaker)", "sm_use_dynamo": "yes", "dynamo_custom": "yes"}
    saved = accelerate_file(walk(typed, frozenset()).session.resolved)
    assert saved["dynamo_config"]["dynamo_mode"] == "default"


@pytest.mark.exhaustive
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", range(WALKS, WALKS + MANY, AT_ONCE))
def test_tens_of_thousands_of_random_walks(first):
    walks = [random_walk(seed) for seed in range(first, first + AT_ONCE)]
    assert differences(walks, accelerate_walks(walks)) == []
    assert [number for number, walked in enumerate(walks, first) if not recovered(walked)] == []


# from a file back to its answers


def recovered(walked: Walked) -> bool:
    """Whether the answers found in a walk's file make the same file again."""
    if walked.session.resolved.stop is not None:
        return True
    probes = {name: name in walked.probes for name in PROBES}
    for name, text in walked.files.items():
        content = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
        again = resolve(ACCELERATE, answers_in(content, probes), probes)
        if again.faults or file_bytes(accelerate_file(again), name).decode() != text:
            return False
    return True


def test_a_file_gives_back_the_answers_it_was_written_for(walks):
    assert [number for number, walked in enumerate(walks) if not recovered(walked)] == []
    assert sum(walked.session.resolved.stop is None for walked in walks) > WALKS / 2


# the document it all started from


def transcript() -> list[str]:
    """What was typed there, a line for each of our questions."""
    lines = [line for line in (HERE / "method_3.txt").read_text().splitlines() if set(line) != {"-"}]
    session, typed = Session(ACCELERATE, {}, {"deepspeed": True, "transformers": True}), []
    while (question := session.current) is not None:
        answer = ""
        if question.id not in ASKED_SINCE:
            text = WORDED_THEN.get(question.id, question.text_in(session.resolved.context)).strip()
            line = lines.pop(0)
            assert line.startswith(text)
            answer = line.removeprefix(text).strip() or (lines.pop(0) if question.kind is Kind.MENU else "")
        typed.append(answer)
        if answer:
            session.answer(Typed(answer))
        else:
            session.accept_default()
    assert lines == []
    return typed


def test_the_transcript_of_the_document_replays_to_its_file(tmp_path):
    typed = "".join(f"{line}\n" for line in transcript())
    done = cli("accelerate-config", "--config_file", "default_config.yaml", cwd=tmp_path, stdin=typed)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout.splitlines()[-1] == "accelerate configuration saved at default_config.yaml"
    written = (tmp_path / "default_config.yaml").read_text().splitlines()
    documented = (HERE / "method_3.yaml").read_text().splitlines()
    assert [line for line in written if line not in documented] == ["enable_cpu_affinity: false"]
    assert [line for line in written if line in documented] == documented
