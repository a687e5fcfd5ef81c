"""The registry as a whole: names and coverage of the settings."""

import json
import re
from collections import Counter

import pytest

from launcher.config.accelerate import PATHS_FROM_DEEPSPEED_CONFIG
from launcher.config.deepspeed import JSON_PATHS, DeepSpeedSettings
from launcher.config.setting import declarations
from launcher.config.training import TrainingSettings, training_declarations
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.conditions import Context
from simpletuner_tui.questions.deepspeed import DEEPSPEED, EXTRA, ONLY_PLAIN, OWNED_BY_ACCELERATE
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.questions.training import TRAINING

NOTHING = Context({})
BY_ID = {question.id: question for question in REGISTRY}


def test_ids_are_unique_and_namespaced():
    assert len(BY_ID) == len(REGISTRY)
    assert all(re.fullmatch(r"(accelerate|ask|deepspeed|training)(\.[A-Za-z0-9_]+)+", name) for name in BY_ID)


def test_every_key_of_training_json_has_exactly_one_question():
    keys = [question.id.removeprefix("training.") for question in REGISTRY if question.id.startswith("training.")]
    assert Counter(keys) == Counter(list(TrainingSettings().to_json()))


def test_every_deepspeed_setting_is_asked_once_or_owned_by_an_answer_of_accelerate():
    assert {declared.key for declared in declarations(DeepSpeedSettings)} == set(JSON_PATHS)
    asked = [question.id.removeprefix("deepspeed.") for question in DEEPSPEED if question.id != EXTRA]
    without_deepspeed = {JSON_PATHS[key] for key in ONLY_PLAIN}
    set_by_accelerate = {target.path for question in ACCELERATE for target in question.sets}
    owned = {path: f"deepspeed_config.{key}" for key, path in PATHS_FROM_DEEPSPEED_CONFIG.items()}
    owned["precision"] = "mixed_precision"
    assert set(owned) == OWNED_BY_ACCELERATE
    assert Counter([*asked, *owned]) == Counter([*JSON_PATHS.values(), *without_deepspeed])
    assert set(owned.values()) <= set_by_accelerate


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
    default = question.default_in(NOTHING)
    if default is not None:
        assert question.validate(default, NOTHING) == default


@pytest.mark.parametrize("question", REGISTRY, ids=lambda question: question.id)
def test_a_default_can_be_typed_as_it_is_shown(question):
    default = question.default_in(NOTHING) if question.asks else None
    if default is not None:
        assert question.parse(question.show(default, NOTHING), NOTHING) == default


def test_only_what_has_no_default_must_be_answered():
    required = {declared.key for _, declared in training_declarations() if declared.required}
    assert {question.id for question in TRAINING if question.default is None} == {f"training.{key}" for key in required}
    assert [question.id for question in DEEPSPEED if question.default is None] == [EXTRA]


def test_every_stop_has_a_condition_and_no_answer():
    stops = [question for question in REGISTRY if question.kind is Kind.STOP]
    assert len(stops) == 11
    assert all(question.when is not None and not question.sets for question in stops)


@pytest.mark.parametrize(("trained", "locked"), [("full", False), ("lora", True)])
def test_parameters_are_locked_one_by_one_for_a_lora_whose_frozen_ones_lie_nowhere_else(trained, locked):
    answers = {"accelerate.use_deepspeed": True, "accelerate.zero_stage": 3, "accelerate.offload_param": "cpu"}
    resolved = resolve(REGISTRY, {**answers, "training.model_type": trained}, {"deepspeed": True})
    assert resolved.values["deepspeed.zero_optimization.offload_param.pin_memory"] is locked


def test_a_default_walk_asks_little_of_accelerate():
    answers = {"accelerate.use_deepspeed": True}
    asked = resolve(ACCELERATE, answers, {"deepspeed": True, "transformers": True}).asked
    assert len(asked) <= 15


def test_every_derived_question_has_help():
    assert all(question.help for question in (*TRAINING, *DEEPSPEED))
