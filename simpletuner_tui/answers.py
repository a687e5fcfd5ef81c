"""answers.json: a versioned file of values by question id, and what a run makes of it."""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from launcher.config.accelerate import PATHS_FROM_DEEPSPEED_CONFIG
from launcher.config.deepspeed import names_no_folder
from launcher.config.setting import Level, Problem
from launcher.config.settings import Settings, read_settings
from launcher.deepspeed.fields import shown
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.opening import open_file
from launcher.deepspeed.parts import parts_of
from launcher.deepspeed.run_facts import facts_of
from launcher.deepspeed.view import ABSENT
from launcher.errors import CannotRunHereError, InvalidInputError, LauncherError
from launcher.estimate import read_model_facts
from launcher.judge import judge
from launcher.machine.packages import installed_version
from simpletuner_tui import paths
from simpletuner_tui.questions.accelerate import ACCELERATE
from simpletuner_tui.questions.accelerate.deepspeed import OFFLOAD_PATH
from simpletuner_tui.questions.accelerate.file import accelerate_file
from simpletuner_tui.questions.conditions import answers_named, depends_on_machine
from simpletuner_tui.questions.deepspeed import EXTRA
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question, Typed
from simpletuner_tui.questions.resolving import Resolved

if TYPE_CHECKING:
    from launcher.preflight import Finding

SCHEMA = 1
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From each older schema, the content in the next one."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Values by question id, and the folder that relative paths among them count from."""

    values: Mapping[str, object] = field(default_factory=dict)
    base: Path = field(default_factory=Path.cwd)

    def with_typed(self, typed: Mapping[str, str], folder: Path, registry: Sequence[Question]) -> "Answers":
        """These answers with some replaced by what was typed in ``folder``.

        Raises:
            InvalidInputError: an id is unknown.
        """
        questions = {question.id: question for question in registry}
        _refuse_unknown(typed, registry)
        added = {
            key: Typed(paths.rebased(text, folder, self.base, hub=questions[key].hub))
            if questions[key].kind is Kind.PATH and not (key in NVME_FOLDERS and names_no_folder(text))
            else Typed(text)
            for key, text in typed.items()
        }
        return Answers({**self.values, **added}, self.base)


def read_answers(content: bytes, base: Path, name: str) -> Answers:
    """The answers in a file; which of them are right is seen when they are resolved.

    Args:
        content: the file.
        base: the folder that relative paths count from.
        name: of the file, for messages.

    Raises:
        InvalidInputError: it is not JSON, no file of answers, or from a newer version.
    """
    try:
        document = json.loads(content, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{name} is not a JSON file: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("answers"), dict):
        raise InvalidInputError(f'{name} is not a file of answers: it needs {{"schema": {SCHEMA}, "answers": {{…}}}}')
    schema = document.get("schema")
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < 1:
        raise InvalidInputError(f"{name}: schema must be a whole number from 1 to {SCHEMA}, not {schema!r}")
    if schema > SCHEMA:
        made_by = document.get("tool")
        raise InvalidInputError(
            f"{name} has schema {schema}, and this version knows {SCHEMA}: it was made by a newer simpletuner-tui"
            f"{f' ({made_by})' if isinstance(made_by, str) else ''}; update to read it"
        )
    for older in range(schema, SCHEMA):
        document = MIGRATIONS[older](document)
    return Answers(document["answers"], base)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        raise ValueError(f"{', '.join(repeated)} stands there twice")
    return content


def write_answers(resolved: Resolved, base: Path, folder: Path, only: Set[str] | None = None) -> bytes:
    """The file of everything that was asked, defaults too: a later version's defaults do not change it.

    Args:
        resolved: answers in force.
        base: the folder their relative paths count from.
        folder: where the file will lie.
        only: ids of a part of it, which other answers complete.
    """
    values = {}
    for question in resolved.asked:
        if question.secret or question.id not in resolved.values or (only is not None and question.id not in only):
            continue
        value = resolved.values[question.id]
        if question.kind is Kind.PATH and isinstance(value, str):
            value = paths.rebased(value, base, folder, hub=question.hub)
        values[question.id] = value
    document = {
        "schema": SCHEMA,
        "tool": installed_version("simpletuner-tui"),
        "accelerate": installed_version("accelerate"),
        "deepspeed": installed_version("deepspeed"),
        "answers": values,
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What answers amount to."""

    settings: Settings
    """With defaults where an answer is missing or faulty."""
    problems: tuple[Problem, ...]
    """Errors and warnings; ``field`` is a question id."""
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> list[Problem]:
        """What has to be answered otherwise."""
        return [problem for problem in self.problems if problem.level is Level.ERROR]

    def raise_errors(self, beside: Sequence[Problem] = ()) -> None:
        """Raises one error that lists every fault.

        Args:
            beside: errors that were found elsewhere, told where the answers have any.

        Raises:
            InvalidInputError: when there is any.
            CannotRunHereError: when all of them say that valid answers are not launched from here.
        """
        if errors := self.errors:
            errors += beside
            valid = all(problem.rule == "launch" for problem in errors)
            kind: type[LauncherError] = CannotRunHereError if valid else InvalidInputError
            raise kind("\n".join(f"{problem.field}: {problem.message}" for problem in errors))


def judge_answers(
    given: Mapping[str, object], resolved: Resolved, base: Path, registry: Sequence[Question], *, strict: bool = False
) -> Judgement:
    """Settings from answers, and every fault of them at once.

    Args:
        given: values by id.
        resolved: the registry met with them.
        base: the folder that relative paths count from.
        registry: every question.
        strict: an answer left to its default is a fault.
    """
    problems = [Problem(key, _unknown(key, registry), rule="unknown") for key in _unknown_ids(given, registry)]
    problems += faults_in(resolved)
    if strict:
        problems += [
            Problem(key, f"is left to its default, {value!r}", rule="strict")
            for key, value in resolved.values.items()
            if key not in resolved.answered and key not in resolved.faults
        ]
    asked = {question.id for question in resolved.asked}
    known = {question.id for question in registry}
    notes = tuple(f"{key} is not asked with these answers and is ignored" for key in given if key in known - asked)
    if problems:
        # A rule would only repeat what a faulty answer breaks.
        return Judgement(read_resolved(resolved, base).settings, tuple(problems), notes)
    read = read_resolved(resolved, base)
    found = list(read.problems)
    if not any(problem.level is Level.ERROR for problem in found):
        model = read_model_facts(read.settings.training.model.pretrained_model_name_or_path)
        found += [by_question(problem, resolved) for problem in judge(read.settings, model)]
    found = list(dict.fromkeys(found))  # a file's warnings are its settings' too
    told = {problem.field for problem in found}
    found += [problem for problem in _not_launched(resolved) if problem.field not in told]
    return Judgement(read.settings, tuple(found), (*notes, *read.notes))


def faults_in(resolved: Resolved) -> list[Problem]:
    """What keeps answers from being a file: wrong and missing ones, and where accelerate refuses to go on."""
    problems = [Problem(key, message) for key, message in resolved.faults.items()]
    if (stop := resolved.stop) is not None:
        rule = "launch" if depends_on_machine(stop.when) else "stop"
        named = {named.question for named in answers_named(stop.when)}
        # The last answer that led there is the one to change.
        led_there = [question.id for question in resolved.asked if question.id in named]
        problems.append(Problem((led_there or [stop.id])[-1], stop.text_in(resolved.context), rule=rule))
    return problems


def _not_launched(resolved: Resolved) -> list[Problem]:
    """What was chosen for another machine; the file does not always tell, as DeepSpeed takes the machine's place."""
    return [
        Problem(question.id, row.unavailable, rule="launch")
        for question in resolved.asked
        for row in question.choices_in(resolved.context)
        if row.unavailable and row.value == resolved.values.get(question.id)
    ]


@dataclass(frozen=True, slots=True)
class Reading:
    """Settings as answers give them."""

    settings: Settings
    """With defaults where an answer is missing or faulty."""
    problems: tuple[Problem, ...]
    """Of type and bounds, of a DeepSpeed file, and what is not launched; ``field`` is a question id."""
    notes: tuple[str, ...]
    """What a DeepSpeed file says otherwise than it was written, or instead of the training's answers."""


def read_resolved(resolved: Resolved, base: Path) -> Reading:
    """Settings from answers in force; rules are not asked.

    Args:
        resolved: the registry met with answers.
        base: the folder that relative paths count from.
    """
    values = dict(resolved.values)
    for question in resolved.asked:
        value = values.get(question.id)
        if question.id in NVME_FOLDERS and names_no_folder(value):
            # It has to stay what it is where nothing stands in for it: a rule refuses it, no folder of that name.
            values[question.id] = values.get(OFFLOAD_PATH) or str(value)
        elif question.kind is Kind.PATH and isinstance(value, str):
            values[question.id] = paths.absolute(value, base, hub=question.hub)
    placed = Resolved(resolved.asked, values, resolved.answered, resolved.faults, resolved.probes)
    accelerate = accelerate_file(placed)
    training = _of_namespace(values, "training.")
    chosen = values.get(DS_JSON)
    if isinstance(chosen, str):
        return _read_with_file(Path(chosen), accelerate, training, resolved)
    deepspeed = _of_namespace(values, "deepspeed.")
    extra = deepspeed.pop("extra", {})
    settings, found = read_settings(accelerate, deepspeed, training, extra if isinstance(extra, dict) else {})
    filled = [question for question in NVME_FOLDERS if is_filled(question, resolved)]
    notes = tuple(f"{question}: {values[question]}, from {OFFLOAD_PATH}" for question in filled)
    return Reading(settings, tuple(by_question(problem, resolved) for problem in found), notes)


def is_filled(question: str, resolved: Resolved) -> bool:
    """Whether a folder for NVMe offload is the one that was brought for all of it."""
    if not resolved.values.get(OFFLOAD_PATH) or question not in resolved.values:
        return False
    return question not in resolved.answered or names_no_folder(resolved.values[question])


def _read_with_file(
    path: Path, accelerate: Mapping[str, Any], training: Mapping[str, object], resolved: Resolved
) -> Reading:
    """Settings where a DeepSpeed file says everything about DeepSpeed, its learning rate and batch too."""
    opened = open_file(path)
    of_run, found = read_settings(accelerate, {}, training)
    problems = [replace(problem, field=DS_JSON, message=_of_file(problem)) for problem in opened.problems]
    if opened.config is None:
        return Reading(of_run, (*problems, *(by_question(problem, resolved) for problem in found)), ())
    run = facts_of(of_run)
    normalised = normalise(opened.config, run, read_installed())
    problems += [replace(problem, field=DS_JSON, message=_of_file(problem)) for problem in normalised.problems]
    if any(problem.level is Level.ERROR for problem in problems):
        return Reading(of_run, tuple(problems), ())
    parts = parts_of(normalised.config, run)
    settings, found = read_settings(accelerate, parts.deepspeed, {**training, **parts.training}, parts.extra)
    problems += [by_question(problem, resolved) for problem in found]
    notes = [
        f"{path.name}: {change.field}: {shown(change.before)} is taken for {_after(change.after)} ({change.reason})"
        for change in normalised.changes
        if change.before is not ABSENT
    ]
    notes += [
        f"{path.name}: {change.field}: {change.after}, from {OFFLOAD_PATH}"
        for change in normalised.changes
        if change.before is ABSENT and change.field.endswith("nvme_path")
    ]
    for key, value in parts.training.items():
        question = f"training.{key}"
        if question in resolved.answered:
            message = f"is not used: {path.name} says {shown(value)}"
            problems.append(Problem(question, message, Level.WARNING, "said-twice"))
        else:
            notes.append(f"{question}: {shown(value)}, from {path.name}")
    return Reading(settings, tuple(problems), tuple(notes))


def _of_file(problem: Problem) -> str:
    return f"{problem.field}: {problem.message}" if problem.field else problem.message


def _after(value: object) -> str:
    return "nothing" if value is ABSENT else shown(value)


Named = TypeVar("Named", Problem, "Finding")


def by_question(problem: Named, resolved: Resolved) -> Named:
    """What is wrong with a DeepSpeed value, named by the question that a person can change."""
    path = problem.field.removeprefix("deepspeed.")
    if path == problem.field or problem.field in resolved.values:
        return problem
    if DS_JSON in resolved.values:
        return replace(problem, field=DS_JSON, message=f"{path}: {problem.message}")
    if path in _OWNERS:
        owner = _OWNERS[path]
        return replace(problem, field=OFFLOAD_PATH if is_filled(owner, resolved) else owner)
    return replace(problem, field=EXTRA, message=f"{path}: {problem.message}")


NVME_FOLDERS = ("accelerate.param_nvme", "accelerate.optimizer_nvme")
"""The questions for folders of NVMe offload."""

DS_JSON = "accelerate.ds_json"
"""The question for a DeepSpeed file, which says everything about DeepSpeed then."""

_OWNERS = {
    PATHS_FROM_DEEPSPEED_CONFIG[key]: question.id
    for question in ACCELERATE
    for target in question.sets
    if (key := target.path.removeprefix("deepspeed_config.")) in PATHS_FROM_DEEPSPEED_CONFIG
} | dict.fromkeys(("precision", "bf16.enabled", "fp16.enabled"), "accelerate.mixed_precision")
"""Which of accelerate's questions sets a DeepSpeed value, by its JSON path."""


def _of_namespace(values: Mapping[str, object], prefix: str) -> dict[str, object]:
    return {key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)}


def _unknown_ids(given: Mapping[str, object], registry: Sequence[Question]) -> list[str]:
    known = {question.id for question in registry if question.asks}
    return [key for key in given if key not in known]


def _unknown(key: str, registry: Sequence[Question]) -> str:
    ids = [question.id for question in registry if question.asks]
    by_leaf = {known.split(".", 1)[-1]: known for known in ids}
    near = difflib.get_close_matches(key, ids, n=3)
    near += [by_leaf[leaf] for leaf in difflib.get_close_matches(key.split(".", 1)[-1], by_leaf, n=1)]
    hint = f"; did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""
    return f"no question has this id{hint}"


def _refuse_unknown(given: Mapping[str, object], registry: Sequence[Question]) -> None:
    unknown = _unknown_ids(given, registry)
    if unknown:
        raise InvalidInputError("\n".join(f"{key}: {_unknown(key, registry)}" for key in unknown))
