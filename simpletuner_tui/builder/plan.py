"""The builder on a walk's answers: what it opens with, and which answers its result amounts to."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from launcher.config.accelerate import PATHS_FROM_DEEPSPEED_CONFIG
from launcher.config.deepspeed import JSON_PATHS
from launcher.config.settings import Settings
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.opening import open_file
from launcher.deepspeed.parts import beyond, parts_of
from launcher.deepspeed.run_facts import facts_of
from launcher.errors import InvalidInputError
from simpletuner_tui import paths
from simpletuner_tui.answers import DS_JSON, read_resolved
from simpletuner_tui.builder.model import Builder
from simpletuner_tui.builder.nested import remove
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.file import accelerate_file
from simpletuner_tui.questions.accelerate.recover import answers_in
from simpletuner_tui.questions.conditions import answers_named
from simpletuner_tui.questions.deepspeed import EXTRA
from simpletuner_tui.questions.model import Question
from simpletuner_tui.questions.resolving import Resolved, resolve
from simpletuner_tui.session import Session

_FILLED_IN = (
    "train_micro_batch_size_per_gpu",
    "steps_per_print",
    "optimizer.params.lr",
    "scheduler.params.warmup_max_lr",
    "scheduler.params.total_num_steps",
)
"""What the run says and the builder fills in, so that it is seen to be the run's."""


def of_file(resolved: Resolved) -> bool:
    """Whether a file says everything about DeepSpeed: what is built is saved there, and is no answer."""
    return DS_JSON in {question.id for question in resolved.asked}


def builder_of(resolved: Resolved, base: Path) -> tuple[Builder, Path]:
    """The builder on what the answers say now, and the file it is saved to where one is wanted.

    Args:
        resolved: answers in force.
        base: the folder that relative paths count from.

    Raises:
        InvalidInputError: the file that is named cannot be opened.
    """
    settings = read_resolved(resolved, base).settings
    run = facts_of(settings)
    named = resolved.values.get(DS_JSON) if of_file(resolved) else None
    path = Path(paths.absolute(named, base)) if isinstance(named, str) else None
    if path is not None and path.exists():
        opened = open_file(path)
        if opened.config is None:
            raise InvalidInputError(f"{path.name} {opened.problems[0].message}")
        return Builder(opened.config, run, read_installed()), path
    config = (Settings() if of_file(resolved) else settings).deepspeed_json()
    for filled in _FILLED_IN:
        remove(config, filled.split("."))
    return Builder(config, run, read_installed()), path or Path("deepspeed.json")


def name_file(session: Session, path: Path) -> str:
    """Answers with a file that was saved; returns what became of the answers, in a sentence."""
    session.take({DS_JSON: str(path)})
    return f"{path} says everything about DeepSpeed."


def apply(config: Mapping[str, Any], session: Session, base: Path, registry: Sequence[Question]) -> str:
    """Answers with a configuration; returns what became of the answers, in a sentence."""
    answers = answers_of(config, session.answers, session.resolved, base, registry)
    session.take(answers)
    return f"Changed: {', '.join(answers)}." if answers else "It says what the answers said: nothing changed."


def answers_of(
    config: Mapping[str, Any], given: Mapping[str, object], resolved: Resolved, base: Path, registry: Sequence[Question]
) -> dict[str, object]:
    """The answers that differ when a walk is to train with a configuration.

    What no question asks, or none asks with these answers, becomes the answer ``deepspeed.extra``.

    Args:
        config: DeepSpeed's JSON as the builder leaves it, without errors.
        given: answers by id.
        resolved: the same, in force.
        base: the folder that relative paths count from.
        registry: every question.
    """
    parts = parts_of(config, facts_of(read_resolved(resolved, base).settings))
    wanted: dict[str, object] = {
        **_of_accelerate(parts.deepspeed, resolved),
        **{f"deepspeed.{path}": _as_answer(value) for path, value in parts.deepspeed.items()},
        **{f"training.{key}": value for key, value in parts.training.items()},
    }
    known = {question.id for question in registry}
    others = {key: value for key, value in given.items() if key != EXTRA}
    met = resolve(
        registry, {**others, **{key: value for key, value in wanted.items() if key in known}}, resolved.probes
    )
    settings = read_resolved(met, base).settings
    said = {path: getattr(settings.deepspeed, key) for key, path in JSON_PATHS.items()}
    answers = {
        question.id: wanted[question.id]
        for question in met.asked
        if question.id in wanted and _is_new(question, wanted[question.id], given, resolved, met)
    }
    extra = beyond(config, said, facts_of(settings))
    if extra != given.get(EXTRA, {}):
        answers[EXTRA] = extra
    return answers


def _of_accelerate(values: Mapping[str, object], resolved: Resolved) -> dict[str, object]:
    """accelerate's own answers about DeepSpeed, as they are read from the file it would write."""
    content = deepcopy(accelerate_file(resolved))
    inline = content["deepspeed_config"]
    for key, path in PATHS_FROM_DEEPSPEED_CONFIG.items():
        inline[key] = values[path]
    if not values["gradient_clipping"]:
        del inline["gradient_clipping"]
    for part in ("offload_optimizer", "offload_param"):
        if inline[f"{part}_device"] != "nvme":
            inline.pop(f"{part}_nvme_path", None)
    content["mixed_precision"] = values["precision"]
    about = [question for question in ACCELERATE if any(_is_ours(target.path) for target in question.sets)]
    led_to = {named.question for question in about for named in answers_named(question.when)}
    found = answers_in(content, resolved.probes)
    # What is not found is at its default, which the answer so far may not be.
    return {
        question.id: found.get(question.id, question.default_in(resolved.context))
        for question in ACCELERATE
        if question in about or question.id in led_to
    }


def _is_new(question: Question, value: object, given: Mapping[str, object], resolved: Resolved, met: Resolved) -> bool:
    """Whether an answer takes hold and is neither in force nor a default that will be."""
    if met.values.get(question.id) != value or resolved.values.get(question.id) == value:
        return False
    return question.id in given or question.default_in(met.context) != value


def _is_ours(path: str) -> bool:
    return path == "mixed_precision" or path.removeprefix("deepspeed_config.") in PATHS_FROM_DEEPSPEED_CONFIG


def _as_answer(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
