"""A topic behind a gate: passed over by most, open to whoever has answered something of it."""

import dataclasses

import pytest

from launcher.config.setting import declarations, setting
from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.questions.training.topic import Topic


@dataclasses.dataclass(frozen=True)
class Noise:
    offset: bool = setting(False, "Whether noise is offset.")
    strength: float = setting(0.1, "By how much.", minimum=0.0)


TOPIC = Topic(
    section="Noise",
    texts={"offset": "Offset the noise?", "strength": "By how much?"},
    conditions={"strength": Is("training.offset", True)},
    gate="Change the noise?",
)
QUESTIONS = tuple(TOPIC.questions("noise", list(declarations(Noise))))


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ({}, ["ask.noise"]),
        ({"ask.noise": True}, ["ask.noise", "training.offset"]),
        ({"training.offset": True}, ["ask.noise", "training.offset", "training.strength"]),
        ({"training.strength": 1.0}, ["ask.noise", "training.offset"]),
        ({"ask.noise": False, "training.offset": True}, ["ask.noise"]),
    ],
)
def test_what_is_asked(answers, asked):
    assert [question.id for question in resolve(QUESTIONS, answers).asked] == asked


def test_a_topic_that_is_passed_over_keeps_its_answers_for_a_change_of_mind():
    answers = {"ask.noise": False, "training.offset": True}
    assert "training.offset" not in resolve(QUESTIONS, answers).values
    assert resolve(QUESTIONS, answers | {"ask.noise": True}).values["training.offset"] is True


def test_without_a_gate_everything_is_asked():
    plain = dataclasses.replace(TOPIC, gate="")
    asked = resolve(tuple(plain.questions("noise", list(declarations(Noise)))), {}).asked
    assert [question.id for question in asked] == ["training.offset"]


def test_what_is_only_given_neither_opens_a_gate_nor_waits_behind_it():
    given = dataclasses.replace(TOPIC, only_given=frozenset({"strength"}), conditions={})
    questions = tuple(given.questions("noise", list(declarations(Noise))))
    asked = resolve(questions, {"training.strength": 1.0}).asked
    assert [question.id for question in asked] == ["ask.noise", "training.strength"]
    assert [question.id for question in resolve(questions, {}).asked] == ["ask.noise"]
