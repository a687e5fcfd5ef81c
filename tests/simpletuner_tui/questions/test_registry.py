"""The registry as a whole: names, coverage of the settings, and accelerate's own words."""

import ast
import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from launcher.config.accelerate import PATHS_FROM_DEEPSPEED_CONFIG
from launcher.config.deepspeed import JSON_PATHS, DeepSpeedSettings
from launcher.config.setting import declarations
from launcher.config.training import TrainingSettings, training_declarations
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.conditions import Context
from simpletuner_tui.questions.deepspeed import DEEPSPEED, OWNED_BY_ACCELERATE
from simpletuner_tui.questions.model import Kind
from simpletuner_tui.questions.training import TRAINING

NOTHING = Context({})
BY_ID = {question.id: question for question in REGISTRY}


def test_ids_are_unique_and_namespaced():
    assert len(BY_ID) == len(REGISTRY)
    assert all(re.fullmatch(r"(accelerate|deepspeed|training)(\.[A-Za-z0-9_]+)+", name) for name in BY_ID)


def test_every_key_of_training_json_has_exactly_one_question():
    keys = [question.id.removeprefix("training.") for question in REGISTRY if question.id.startswith("training.")]
    assert Counter(keys) == Counter(list(TrainingSettings().to_json()))


def test_every_deepspeed_setting_is_asked_once_or_owned_by_an_answer_of_accelerate():
    assert {declared.key for declared in declarations(DeepSpeedSettings)} == set(JSON_PATHS)
    asked = [question.id.removeprefix("deepspeed.") for question in DEEPSPEED]
    set_by_accelerate = Counter(target.path for question in ACCELERATE for target in question.sets)
    owned = {path: f"deepspeed_config.{key}" for key, path in PATHS_FROM_DEEPSPEED_CONFIG.items()}
    owned["precision"] = "mixed_precision"
    assert set(owned) == OWNED_BY_ACCELERATE
    assert Counter([*asked, *owned]) == Counter(JSON_PATHS.values())
    assert {target: set_by_accelerate[target] for target in owned.values()} == dict.fromkeys(owned.values(), 1)


def mentioned(condition):
    """Ids in a printed condition."""
    if isinstance(condition, dict):
        if isinstance(condition.get("question"), str):
            yield condition["question"]
        for part in condition.values():
            yield from mentioned(part)
    elif isinstance(condition, list):
        for part in condition:
            yield from mentioned(part)


def test_conditions_refer_to_earlier_questions_only():
    seen = set()
    for question in REGISTRY:
        named = set(mentioned(question.when.to_json() if question.when else None))
        assert named <= seen, question.id
        seen.add(question.id)
    assert set(mentioned({"not": {"all": [{"question": "a", "is": [1]}, {"any": [{"question": "b"}]}]}})) == {"a", "b"}


def test_what_an_answer_is_compared_with_can_be_answered():
    """A condition on a value that no choice has would never hold."""

    def compared(condition):
        if isinstance(condition, dict):
            if "is" in condition:
                yield condition["question"], condition["is"]
            for part in condition.values():
                yield from compared(part)
        elif isinstance(condition, list):
            for part in condition:
                yield from compared(part)

    for question in REGISTRY:
        for name, values in compared(question.when.to_json() if question.when else None):
            for value in values:
                assert BY_ID[name].validate(value, NOTHING) == value, f"{question.id}: {name} is never {value!r}"


@pytest.fixture(scope="module")
def accelerate_says() -> set[str]:
    """Every text in accelerate's questionnaire; what an f-string computes stands as {}."""
    folder = Path(importlib.util.find_spec("accelerate").origin).parent / "commands/config"
    texts = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                texts.add("".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values))
    return texts


@pytest.mark.parametrize("question", ACCELERATE, ids=lambda question: question.id)
def test_accelerate_is_asked_in_its_own_words(question, accelerate_says):
    text = question.text_in(NOTHING)
    if callable(question.text):  # one number in a sentence of theirs
        text = text.replace("GPU(s)", "{}")
    assert text in accelerate_says


def test_menus_of_accelerate_offer_its_own_rows(accelerate_says):
    from_constants = {"accelerate.ds_launcher"}  # accelerate.utils.constants; walked by test_hard_questions
    for question in ACCELERATE:
        rows = [row.label for row in question.choices_in(NOTHING)]
        if question.kind is Kind.MENU and question.id not in from_constants:
            assert {row for row in rows if not row.isdigit()} <= accelerate_says, question.id


def test_the_registry_prints_as_json():
    printed = json.loads(json.dumps([question.to_json() for question in REGISTRY]))
    assert [entry["id"] for entry in printed] == list(BY_ID)
    by_id = {entry["id"]: entry for entry in printed}
    assert by_id["training.resolution"]["default"] == 1024
    assert by_id["training.cpu_threads"]["default"] == 0
    assert by_id["accelerate.use_cpu"]["default"] is False
    assert by_id["training.validation_prompt"]["default"] == ""
    assert "default" not in by_id["training.instance_data_dir"]
    assert by_id["accelerate.zero_stage"]["choices"][3] == {"label": "3", "value": 3}


@pytest.mark.parametrize("question", [*TRAINING, *DEEPSPEED], ids=lambda question: question.id)
def test_a_default_passes_its_own_check(question):
    if question.default is not None:
        assert question.validate(question.default, NOTHING) == question.default


@pytest.mark.parametrize("question", REGISTRY, ids=lambda question: question.id)
def test_a_default_can_be_typed_as_it_is_shown(question):
    default = question.default_in(NOTHING) if question.asks else None
    if default is not None:
        assert question.parse(question.show(default, NOTHING), NOTHING) == default


def test_only_what_has_no_default_must_be_answered():
    required = {declared.key for _, declared in training_declarations() if declared.required}
    assert {question.id for question in TRAINING if question.default is None} == {f"training.{key}" for key in required}
    assert all(question.default is not None for question in DEEPSPEED)


def test_every_derived_question_has_help():
    assert all(question.help for question in (*TRAINING, *DEEPSPEED))
