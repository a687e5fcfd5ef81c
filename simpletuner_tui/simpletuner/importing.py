"""A configuration of SimpleTuner as answers, and what became of each of its keys."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launcher.config.setting import Level, Problem
from launcher.config.training import training_declarations
from launcher.deepspeed.fields import shown
from launcher.deepspeed.installed import read_installed
from launcher.deepspeed.normalise import normalise
from launcher.deepspeed.opening import INLINE, Opened, open_inline
from launcher.deepspeed.run_facts import facts_of
from launcher.errors import InvalidInputError
from simpletuner_tui.answers import judge_answers, read_resolved
from simpletuner_tui.builder.plan import answers_of
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question, Typed
from simpletuner_tui.questions.resolving import Resolved, resolve
from simpletuner_tui.simpletuner.backends import Backends, find, read_backends
from simpletuner_tui.simpletuner.reading import Entry, read_entries
from simpletuner_tui.simpletuner.rows import Fate, Row
from simpletuner_tui.simpletuner.said import Options
from simpletuner_tui.simpletuner.translations import OWN_ONCE_THERE, TRANSLATIONS
from simpletuner_tui.simpletuner.values import is_off

BACKENDS = "data_backend_config"
NAMED = (INLINE, BACKENDS)
"""What may name a file of its own."""

LEFT_OUT: Mapping[str, object] = MappingProxyType({"model_type": "lora"})
"""What SimpleTuner trains with where a configuration is silent, and would not be trained with here."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What a configuration amounts to."""

    resolved: Resolved
    base: Path
    """What relative paths among the answers count from."""
    rows: tuple[Row, ...]
    """Every key, in the file's order."""
    needed: tuple[Problem, ...]
    """What keeps the answers from being trained with."""
    sources: tuple[Mapping[str, object], ...] = ()
    """Entries of the file of sources that an answer names; none where answers say it all."""


def import_config(path: Path, registry: Sequence[Question], probes: Mapping[str, bool], listing: Path) -> Imported:
    """Reads a config.json or config.env of SimpleTuner's with the files it names; nothing is written.

    Args:
        path: the file.
        registry: every question.
        probes: facts of this machine.
        listing: where its sources of pictures are going to be listed, if answers alone cannot say them.

    Raises:
        InvalidInputError: the file cannot be read, or holds no options.
    """
    entries = read_entries(path)
    values = {entry.name: entry.value for entry in reversed(entries)}
    base = _base(path.absolute().parent, values)
    settings = frozenset(declared.key for _, declared in training_declarations())
    backends, of_backends = _backends(values, base, listing, settings)
    opened = None if is_off(values.get(INLINE)) else open_inline(values[INLINE], base)
    wanted = None if opened is None else opened.config or {}
    options = Options(values, settings, backends.pictures if backends else None, wanted)
    questions = {question.id: question for question in registry}
    rows = list(_rows(entries, options, questions))
    of_its_own = backends.rows if backends else ()
    if BACKENDS in values:
        place = [entry.name for entry in entries].index(BACKENDS)
        rows[place : place + 1] = [
            replace(of_backends, key=rows[place].key),
            *(_accepted(row, questions) for row in of_its_own),
        ]
    settled = _settled(rows, _Of(entries, opened, base, registry, probes, frozenset(row.key for row in of_its_own)))
    return replace(settled, sources=backends.sources) if backends else settled


def _key(entries: Sequence[Entry], name: str) -> str:
    return next(entry.key for entry in entries if entry.name == name)


def _base(folder: Path, values: Mapping[str, Any]) -> Path:
    """Where SimpleTuner was started: the folder from which the files that are named are there."""
    folders = (*[folder, *folder.parents][:4], Path.cwd())
    for key in reversed(NAMED):
        value = values.get(key)
        if isinstance(value, str) and "{" not in value and (found := find(value, folders)):
            return found[1]
    return folder


def _backends(
    values: Mapping[str, Any], base: Path, listing: Path, settings: frozenset[str]
) -> tuple[Backends | None, Row]:
    value = values.get(BACKENDS)
    if not isinstance(value, str) or is_off(value):
        return None, Row(BACKENDS, Fate.LEFT, "names no file")
    found = find(value, (base,))
    if found is None:
        return None, Row(BACKENDS, Fate.LEFT, f"{shown(value)} is not found; set training.instance_data_dir")
    try:
        backends = read_backends(found[0], base, listing, values, settings)
    except InvalidInputError as error:
        return None, Row(BACKENDS, Fate.LEFT, str(error))
    if not backends.sources:
        return backends, Row(BACKENDS, Fate.TRANSLATED, f"read from {found[0]}")
    how = f"read from {found[0]}; its sources of pictures are listed in {listing.name}"
    return backends, Row(BACKENDS, Fate.TRANSLATED, how, {f"training.{BACKENDS}": os.path.relpath(listing, base)})


def _rows(entries: Sequence[Entry], options: Options, questions: Mapping[str, Question]) -> Iterator[Row]:
    first: dict[str, str] = {}
    for entry in entries:
        if entry.name in first:
            yield Row(entry.key, Fate.LEFT, f"{first[entry.name]} says it before")
            continue
        first[entry.name] = entry.key
        if entry.name in NAMED:
            # Read with all others at hand; until then off, which is what they are without a word.
            yield Row(entry.key, Fate.TRANSLATED, "is not wanted")
        else:
            yield _accepted(_row(entry, options), questions)
    for name, value in LEFT_OUT.items():
        if name not in first:
            yield Row(f"{name} (left out)", Fate.TRANSLATED, "what SimpleTuner does then", {f"training.{name}": value})


def _row(entry: Entry, options: Options) -> Row:
    own = entry.name in options.settings
    translate = TRANSLATIONS.get(entry.name)
    if translate is not None and not (own and entry.name in OWN_ONCE_THERE):
        if entry.value is None:
            return Row(entry.key, Fate.TRANSLATED, "null leaves it to its default")
        try:
            said = translate(entry.value, options)
        except ValueError as error:
            return Row(entry.key, Fate.LEFT, str(error))
        kept = own and set(said.answers) == {f"training.{entry.name}"} and not said.how
        return Row(entry.key, Fate.KEPT if kept else Fate.TRANSLATED, said.how, said.answers)
    if not own:
        return Row(entry.key, Fate.LEFT, "there is no such setting here")
    if entry.value is None:
        return Row(entry.key, Fate.TRANSLATED, "null leaves it to its default")
    return Row(entry.key, Fate.KEPT, "", {f"training.{entry.name}": entry.value})


def _accepted(row: Row, questions: Mapping[str, Question]) -> Row:
    """A row whose answers are of their questions' kinds: a number or a switch may stand there as text."""
    answers: dict[str, object] = {}
    for key, value in row.answers.items():
        question = questions[key]
        if question.kind is Kind.TEXT and isinstance(value, int | float) and not isinstance(value, bool):
            answers[key] = str(value)
        elif isinstance(value, str) and question.kind not in (Kind.TEXT, Kind.PATH, Kind.MENU):
            answers[key] = Typed(value)
        else:
            answers[key] = value
    return replace(row, answers=answers)


@dataclass(frozen=True, slots=True)
class _Of:
    """What rows are settled with."""

    entries: Sequence[Entry]
    opened: Opened | None
    base: Path
    registry: Sequence[Question]
    probes: Mapping[str, bool]
    of_source: frozenset[str]
    """Keys of rows that a source of pictures says for itself: they hold over what is said for all."""

    def resolve(self, rows: Sequence[Row], more: Mapping[str, object]) -> tuple[dict[str, object], Resolved]:
        """Answers of all rows, the first of each id, and the registry met with them."""
        given: dict[str, object] = {"accelerate.use_deepspeed": self.opened is not None}
        own = [row for row in rows if row.key in self.of_source]
        for row in reversed([*own, *(row for row in rows if row.key not in self.of_source)]):
            given |= row.answers
        given |= more
        return given, resolve(self.registry, given, self.probes)


def _settled(rows: list[Row], of: _Of) -> Imported:
    given, resolved = of.resolve(rows, {})
    rows = [_without_faults(row, resolved) for row in rows]
    given, resolved = of.resolve(rows, {})
    more: dict[str, object] = {}
    if of.opened is not None:
        key = _key(of.entries, INLINE)
        row, more = _deepspeed(key, of, given, resolved)
        rows = [row if each.key == key else each for each in rows]
    given, resolved = of.resolve(rows, more)
    rows = [_in_force(row, resolved, more) for row in rows]
    judgement = judge_answers(given, resolved, of.base, of.registry)
    needed = [problem for problem in judgement.problems if problem.level is Level.ERROR]
    return Imported(resolved, of.base, tuple(rows), tuple(needed))


def _without_faults(row: Row, resolved: Resolved) -> Row:
    faults = [resolved.faults[key] for key in row.answers if key in resolved.faults]
    return row.left(faults[0]) if faults else row


def _deepspeed(key: str, of: _Of, given: Mapping[str, object], resolved: Resolved) -> tuple[Row, dict[str, object]]:
    """What a DeepSpeed configuration says, as answers; faulty ones are mended in the builder, not guessed at here."""
    opened = of.opened
    assert opened is not None
    problems = opened.problems
    changes: tuple[str, ...] = ()
    if opened.config is not None:
        settings = read_resolved(resolved, of.base).settings
        # SimpleTuner fills in what its file leaves out with its own keys, which are answers by now.
        own = {key: value for key, value in settings.deepspeed_json().items() if key in {"optimizer", "scheduler"}}
        normalised = normalise({**own, **opened.config}, facts_of(settings), read_installed())
        problems = (*problems, *normalised.problems)
        changes = tuple(f"{change.field} ({change.reason})" for change in normalised.changes)
    wrong = [f"{problem.field}: {problem.message}" for problem in problems if problem.level is Level.ERROR]
    if opened.config is None or wrong:
        mend = "mend it with `simpletuner-tui deepspeed` on this file, and import it again"
        return Row(key, Fate.LEFT, f"{'; '.join(wrong)}; {mend}"), {}
    answers = answers_of(normalised.config, given, resolved, of.base, of.registry)
    how = f"set right: {'; '.join(changes)}" if changes else "as it stands"
    return Row(key, Fate.TRANSLATED, how, answers), answers


def _in_force(row: Row, resolved: Resolved, of_deepspeed: Mapping[str, object]) -> Row:
    """A row that still holds; one that no question asks for, or that another key overrules, is not carried."""
    if row.fate is Fate.LEFT or not row.answers:
        return row
    if all(_holds(key, value, resolved) for key, value in row.answers.items()):
        return replace(row, answers={key: resolved.values[key] for key in row.answers})
    kept = {key: resolved.values[key] for key, value in row.answers.items() if _holds(key, value, resolved)}
    if kept:
        return replace(row, fate=Fate.TRANSLATED, answers=kept)
    (key, *_) = row.answers
    if key in resolved.values:
        by = "the DeepSpeed configuration" if key in of_deepspeed else "another key"
        return row.left(f"{by} says {shown(resolved.values[key])}, and that holds")
    return row.left("has no effect with the other answers")


def _holds(key: str, value: object, resolved: Resolved) -> bool:
    if key not in resolved.values:
        return False
    question = next(question for question in resolved.asked if question.id == key)
    try:
        return bool(question.accept(value, resolved.context) == resolved.values[key])
    except ValueError:
        return False
