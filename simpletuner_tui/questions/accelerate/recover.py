"""From a file that accelerate wrote back to the answers it was written for: the defaults of the next walk.

What an answer sets says it directly. What sets nothing, such as whether to clip gradients at all, is told by the
questions it leads to: one of them is in the file, or it cannot have been so.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from launcher.config.deepspeed import deepspeed_declarations
from launcher.config.nested import leaves
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.common import PREFIX
from simpletuner_tui.questions.conditions import Answer, answers_named
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question, Sets
from simpletuner_tui.questions.resolving import resolve

TAKEN_FROM_DEEPSPEED_CONFIG = ("optimizer", "scheduler")
"""Sections of DeepSpeed's JSON that people put beside accelerate's own keys, as SimpleTuner reads them."""

OF_THE_RUN = {
    "optimizer.params.lr": "training.learning_rate",
    "scheduler.params.warmup_num_steps": "training.lr_warmup_steps",
}
"""Values of those sections that are answers of their own."""

FROM_THE_RUN = ("scheduler.params.warmup_min_lr", "scheduler.params.warmup_max_lr", "scheduler.params.total_num_steps")
"""Values of those sections that follow from such answers."""

_MISSING = object()


def answers_in(content: Mapping[str, Any], probes: Mapping[str, bool]) -> dict[str, Answer]:
    """Answers to accelerate's questions from its file.

    Args:
        content: the file as an object; keys that no question sets, and values that no question takes, are passed over.
        probes: facts of this machine.
    """
    answers: dict[str, Answer] = {}
    for question in ACCELERATE:
        value = _said(question, content)
        if value is not _MISSING:
            answers[question.id] = value
    answers |= _machine(content)
    told = set(answers)
    for question in reversed(ACCELERATE):
        if question.asks and question.id not in answers:
            _infer(question, answers, told)
    # What this machine lacks ends a walk, not the file.
    asking = [question for question in ACCELERATE if question.kind is not Kind.STOP]
    while faults := set((resolved := resolve(asking, answers, probes)).faults) & set(answers):
        answers = {key: value for key, value in answers.items() if key not in faults}
    return {key: value for key, value in answers.items() if key in resolved.values}


def deepspeed_answers_in(content: Mapping[str, Any]) -> tuple[dict[str, object], tuple[str, ...]]:
    """Answers about DeepSpeed's optimizer and schedule that people add to accelerate's file by hand.

    Returns:
        Answers by question id, and the JSON paths of what no question asks.
    """
    section = content.get("deepspeed_config")
    if not isinstance(section, Mapping):
        return {}, ()
    taken = {key: section[key] for key in TAKEN_FROM_DEEPSPEED_CONFIG if isinstance(section.get(key), Mapping)}
    known = deepspeed_declarations()
    answers: dict[str, object] = {}
    others: list[str] = []
    for keys, value in leaves(taken):
        path = ".".join(map(str, keys))  # YAML has keys of any kind
        if path in OF_THE_RUN:
            answers[OF_THE_RUN[path]] = value
        elif path in known:
            answers[f"deepspeed.{path}"] = value
        elif path not in FROM_THE_RUN:
            others.append(path)
    return answers, tuple(others)


def _said(question: Question, content: Mapping[str, Any]) -> Any:
    """What the file itself says to a question."""
    for target in question.sets:
        stored = _at(content, target.path, target.item)
        if target.constant is None and stored is not _MISSING:
            return _answer(question, target, stored)
        if question.kind is Kind.YES_NO and target.constant is not None and stored is not _MISSING:
            (named,) = (named for named in answers_named(target.when) if named.question == question.id)
            same = stored == (list(target.constant) if isinstance(stored, list) else target.constant)
            return named.values[0] if same else not named.values[0]
    return _MISSING


def _answer(question: Question, target: Sets, stored: Any) -> Any:
    if target.inverse is not None:
        try:
            return target.inverse(stored)
        except TypeError:
            return _MISSING
    # Written by hand, a single device id is a number.
    return str(stored) if question.kind is Kind.TEXT and type(stored) is int else stored


def _machine(content: Mapping[str, Any]) -> dict[str, Answer]:
    """DeepSpeed, FSDP and Megatron-LM stand where the machine was; this is the one they are most likely on."""
    kind = content.get("distributed_type")
    if kind not in ("DEEPSPEED", "FSDP", "MEGATRON_LM"):
        return {}
    counts = [content.get(key, 1) for key in ("num_machines", "num_processes")]
    single = content.get("use_cpu") is True or (counts == [1, 1] and not content.get("debug"))
    return {f"{PREFIX}machine": "NO" if single and kind == "DEEPSPEED" else "MULTI_GPU"}


def _infer(question: Question, answers: dict[str, Answer], told: set[str]) -> None:
    """The answer that leads to questions the file answers, else one that leads to none it should but does not."""
    values: list[Any] = [True, False]
    if question.kind is not Kind.YES_NO:
        values = [row.value for row in question.choices] if isinstance(question.choices, tuple) else []
    led_to = {value: _led_to(question.id, value) for value in values}
    for value in values:
        if any(following.id in told for following in led_to[value]):
            answers[question.id] = value
            told.add(question.id)
            return
    possible = [value for value in values if not any(following.sets for following in led_to[value])]
    if possible and question.default not in possible:
        answers[question.id] = possible[0]


@cache
def _led_to(question_id: str, value: Answer) -> tuple[Question, ...]:
    """The questions that an answer, perhaps with others, leads to."""
    return tuple(
        question
        for question in ACCELERATE
        for named in answers_named(question.when)
        if named.question == question_id and value in named.values
    )


def _at(content: Any, path: str, item: int | None = None) -> Any:
    for key in path.split("."):
        if not isinstance(content, Mapping) or key not in content:
            return _MISSING
        content = content[key]
    if item is None:
        return content
    return content[item] if isinstance(content, list) and item < len(content) else _MISSING
