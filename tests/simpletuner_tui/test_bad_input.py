"""Whatever a file or a person says, the answer is a sentence, never a traceback."""

import json
import tempfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.errors import InvalidInputError
from simpletuner_tui.answers import SCHEMA, Answers, judge_answers, read_answers, write_answers
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.model import Typed
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.session import Session

PROBES = {"deepspeed": True}
ASKING = [question for question in REGISTRY if question.asks]
LEAST = {
    "training.pretrained_model_name_or_path": "model",
    "training.instance_data_dir": "pictures",
    "accelerate.use_deepspeed": True,
}
MANY = settings(max_examples=100, deadline=None)

ids = st.sampled_from([question.id for question in ASKING])
odd_text = st.text() | st.sampled_from(["~", "~root", "~nobody/x", "a/b", "/", ".", "\0", "\ud800", "x" * 300 + "/y"])
scalars = st.none() | st.booleans() | st.integers() | st.floats() | odd_text | st.just(10**400)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
choices = st.sampled_from([row.value for question in ASKING for row in question.choices_in(resolve((), {}).context)])
answers = st.dictionaries(ids | st.text(), values | choices | st.booleans(), max_size=8)


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def judge(read: Answers, *, strict: bool = False) -> None:
    """Everything that is done with answers before a plan is made."""
    resolved = resolve(REGISTRY, read.values, PROBES)
    judgement = judge_answers(read.values, resolved, read.base, REGISTRY, strict=strict)
    read_answers(write_answers(resolved, read.base, read.base / "run"), read.base, "export")
    with suppress(InvalidInputError):
        judgement.raise_errors()


@given(added=answers, strict=st.booleans())
@MANY
def test_any_value_for_any_question(folder, added, strict):
    judge(Answers({**LEAST, **added}, folder), strict=strict)


@given(typed=st.dictionaries(ids | st.text(), odd_text | st.from_regex(r"[-+0-9eE.,_ ]+"), max_size=8))
@MANY
def test_any_text_typed_for_any_question(folder, typed):
    with suppress(InvalidInputError):
        judge(Answers(LEAST, folder).with_typed(typed, folder, REGISTRY))


@pytest.mark.parametrize("question", ASKING, ids=lambda question: question.id)
@given(typed=odd_text)
@settings(max_examples=20, deadline=None)
def test_any_text_typed_in_a_walk(question, typed):
    session = Session([replace(question, when=None, if_answered=False)], {}, {})
    with suppress(ValueError):
        session.answer(Typed(typed))
        assert session.current is None


@given(content=st.binary())
@MANY
def test_any_bytes_as_a_file(folder, content):
    with suppress(InvalidInputError):
        judge(read_answers(content, folder, "x"))


@given(schema=values, content=values | answers, cut=st.integers(0, 400), put=st.binary(max_size=3))
@MANY
def test_any_damaged_file_of_answers(folder, schema, content, cut, put):

    def document(content):
        return json.dumps({"schema": SCHEMA, "answers": content}).encode()

    whole = json.dumps({"schema": schema, "tool": content, "answers": content}).encode()
    for damaged in (whole, whole[:cut] + put + whole[cut:], whole[:cut], document(content)):
        with suppress(InvalidInputError):
            judge(read_answers(damaged, folder, "x"))


SECTIONS = (
    "zero_optimization",
    "optimizer",
    "params",
    "bf16",
    "fp16",
    "enabled",
    "stage",
    "offload_optimizer",
    "device",
)
keys = st.sampled_from([*SECTIONS, "zero_optimization.stage", "optimizer.params.lr", "precision"]) | st.text()
deepspeed = st.recursive(
    scalars | st.lists(scalars, max_size=2), lambda inner: st.dictionaries(keys, inner, max_size=4), max_leaves=10
)


@given(content=st.dictionaries(keys, deepspeed, max_size=5).map(lambda found: json.dumps(found).encode()) | st.binary())
@MANY
def test_any_deepspeed_file(folder, content):
    (folder / "ds.json").write_bytes(content)
    judge(Answers({**LEAST, "accelerate.ds_use_json": True, "accelerate.ds_json": "ds.json"}, folder))
