"""A DeepSpeed configuration being edited, without a screen: its fields, what they do now, and what it amounts to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from typing import Any

from launcher.config.nested import put
from launcher.config.setting import Level, Problem
from launcher.deepspeed.fields import FIELDS, LEFT_OUT, SECTIONS, Field, Group, Kind
from launcher.deepspeed.fields.optimizer import CANONICAL, OFFERED
from launcher.deepspeed.installed import Installed
from launcher.deepspeed.normalise import Change, Normalised, normalise, understand
from launcher.deepspeed.run_facts import RunFacts
from launcher.deepspeed.templates import differences
from launcher.deepspeed.view import ABSENT, View
from launcher.deepspeed.writing import as_json
from simpletuner_tui.builder.idle import why_idle
from simpletuner_tui.builder.nested import at, in_order_of, remove
from simpletuner_tui.builder.values import as_typed, parse, read_typed
from simpletuner_tui.preview import Line, marked_lines
from simpletuner_tui.questions.model import Choice

OTHER_KEYS = "other keys"
"""The topic of what the builder does not edit and keeps."""

KEPT = "keep"
"""Typed for a key that is not edited here: it stays; nothing typed takes it out."""


@dataclass(frozen=True, slots=True)
class Place:
    """One row of the builder: a field, or a key that is kept and not edited."""

    path: str
    """Shown, and unlike every other's; a key that holds a dot itself is in quotes."""
    keys: tuple[str, ...]
    field: Field | None


_FIELDS: Mapping[str, Place] = {path: Place(path, tuple(path.split(".")), field) for path, field in FIELDS.items()}


class State(Enum):
    """What is to be said of a place in its row; the first that holds."""

    ERROR = "error"
    WARNING = "warning"
    IDLE = "no effect now"
    SET = "set"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Facts:
    """All there is to say about one place."""

    meaning: str
    idle: str
    """Why it has no effect now; empty where it has one."""
    now: str
    """What stands there, and who said so."""
    default: str
    effect: str
    problems: tuple[Problem, ...]


class Builder:
    """Edits a configuration as it was written; what is shown and saved is what DeepSpeed has to get.

    What the run decides is filled in anew after every edit, so it follows the fields it depends on.
    """

    def __init__(self, config: Mapping[str, Any], run: RunFacts, installed: Installed) -> None:
        """Nothing is changed yet but spelling.

        Args:
            config: DeepSpeed's JSON as an object; it is left alone.
            run: the run it belongs to.
            installed: the DeepSpeed that will read it.
        """
        self.run, self.installed = run, installed
        sheet = understand(config, installed)
        self._understood: Sequence[Change] = sheet.changes
        self._start = as_json(sheet.config)
        self._before = as_json(config)
        self._config = sheet.config
        self.edits = 0
        """How often something was taken; what is drawn of it is drawn anew when this grows."""
        self._judge(sheet.config)

    def _judge(self, edited: dict[str, Any]) -> None:
        self._edited = edited
        self._normalised = self._settled(edited)
        self._config = in_order_of(self._config, self._normalised.config)
        self._view = View(self._config)
        self._others = {place.path: place for place in _other_places(self._config)}
        self._problems: dict[str, list[Problem]] = {}
        for problem in self.problems:
            if place := self.place_of(problem.field, problem.rule):
                self._problems.setdefault(place.path, []).append(problem)

    def _settled(self, edited: Mapping[str, Any]) -> Normalised:
        return normalise(edited, self.run, self.installed)

    # the whole

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as DeepSpeed has to get it."""
        return deepcopy(self._config)

    @property
    def json(self) -> str:
        """The same as a file."""
        return as_json(self._config)

    @property
    def lines(self) -> Sequence[Line]:
        """The file's lines, with those marked that the last edit brought; at first, those that opening it did."""
        return marked_lines(self._before, self.json)

    @property
    def written(self) -> dict[str, Any]:
        """What a file or a person says, without what the run fills in."""
        return deepcopy(self._edited)

    @property
    def edited(self) -> bool:
        """Whether a person changed anything."""
        return as_json(self._edited) != self._start

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong, errors first."""
        return tuple(sorted(self._normalised.problems, key=lambda problem: problem.level is not Level.ERROR))

    @property
    def errors(self) -> int:
        """How many of them DeepSpeed would stop at."""
        return sum(problem.level is Level.ERROR for problem in self._normalised.problems)

    @property
    def changes(self) -> tuple[Change, ...]:
        """What reads differently than it was written, as far as it still stands."""
        mine = View(self._edited)
        standing = [change for change in self._understood if mine.raw(change.field) == change.after]
        return (*standing, *self._normalised.changes)

    # places

    def place(self, path: str) -> Place | None:
        """The place of a path, if there is one."""
        return _FIELDS.get(path) or self._others.get(path)

    def place_of(self, path: str, rule: str = "") -> Place | None:
        """Where a problem or a change is mended.

        Args:
            path: what it is about; of a section the first of its fields is the place.
            rule: what found it.
        """
        if path in _FIELDS and rule != "key":  # a key that holds dots itself is not the field that looks like it
            return _FIELDS[path]
        other = next((place for place in self._others.values() if ".".join(place.keys) == path), None)
        return other or next((place for field, place in _FIELDS.items() if field.startswith(f"{path}.")), None)

    def listed(self, *, full: bool, words: str = "", also: Place | None = None) -> list[tuple[str, list[Place]]]:
        """Places by topic.

        Args:
            full: every field; without it those that matter, are set, or have a problem.
            words: all of them are in the path or the meaning of what is listed; every field is searched.
            also: listed in any case, unless words are searched.
        """
        wanted = words.lower().split()

        def shown(place: Place) -> bool:
            if wanted:
                text = _searched(place)
                return all(word in text for word in wanted)
            basic = place.field is None or place.field.basic
            return full or basic or place == also or self.is_set(place) or place.path in self._problems

        topics = [(str(group), [place for place in _FIELDS.values() if _group(place) is group]) for group in Group]
        topics.append((OTHER_KEYS, list(self._others.values())))
        listed = [(topic, [place for place in places if shown(place)]) for topic, places in topics]
        return [(topic, places) for topic, places in listed if places]

    def closest(self, places: Iterable[Place], words: str) -> Place | None:
        """The first of the places that the words name best: by its own name, then by its path."""
        wanted = words.lower().split()

        def distance(place: Place) -> int:
            name = place.keys[-1].lower()
            return 0 if [name] == wanted else 1 if all(word in place.path.lower() for word in wanted) else 2

        return min(places, key=distance, default=None)

    def is_set(self, place: Place) -> bool:
        """Whether the configuration says it itself."""
        return at(self._edited, place.keys) is not ABSENT

    def state(self, place: Place) -> State:
        """The first thing to say about it."""
        problems = self._problems.get(place.path, [])
        if problems:
            return State.ERROR if problems[0].level is Level.ERROR else State.WARNING
        if place.field and why_idle(place.field, self._view):
            return State.IDLE
        return State.SET if self.is_set(place) else State.LEFT_OUT

    def value(self, place: Place) -> str:
        """What stands there in the end; empty where nothing does."""
        value = at(self._config, place.keys)
        return "" if value is ABSENT else as_typed(value)

    def facts(self, place: Place) -> Facts:
        """All there is to say about it."""
        field, problems = place.field, tuple(self._problems.get(place.path, []))
        if field is None:
            reason = LEFT_OUT.get(place.path)
            meaning = f"Not edited here: {reason}." if reason else "Not edited here, and kept as it stands."
            return Facts(meaning, "", self._now(place), "", "", problems)
        return Facts(
            field.meaning, why_idle(field, self._view), self._now(place), _default(field), field.effect, problems
        )

    def _now(self, place: Place) -> str:
        mine, value = at(self._edited, place.keys), at(self._config, place.keys)
        path = ".".join(place.keys)
        reasons = [
            change.reason for change in self.changes if path == change.field or path.startswith(f"{change.field}.")
        ]
        why = f": {reasons[-1]}" if reasons else ""
        if mine is ABSENT:
            return "Left out." if value is ABSENT else f"Now {as_typed(value)}, filled in{why}."
        if value is ABSENT:
            return f"{as_typed(mine)} is taken out{why}."
        if as_typed(mine) != as_typed(value):
            return f"{as_typed(mine)} becomes {as_typed(value)}{why}."
        return f"Now {as_typed(value)}, set here."

    # editing

    def text(self, place: Place) -> str:
        """What stands there as it would be typed; empty where it is left out."""
        if place.field is None:
            return KEPT
        value = at(self._edited, place.keys)
        return "" if value is ABSENT else as_typed(value)

    def chosen(self, place: Place) -> str:
        """The value of the row that is in force, of a place with rows."""
        if place.field is None or not self.is_set(place):
            return self.text(place)
        return as_typed(read_typed(place.field, self.value(place) or self.text(place)))

    def rows(self, place: Place) -> tuple[Choice, ...]:
        """What can be chosen, each with the error it would bring; none where a line is typed."""
        if place.field is None:
            return Choice("keep it as it stands", KEPT), Choice("take it out", "")
        texts = self._choices(place.field)
        if not texts:
            return ()
        filled = "" if self.is_set(place) or not self.value(place) else f"  ({self.value(place)} is filled in)"
        return Choice(f"left out{filled}", ""), *(Choice(text, text, self._error(place, text)) for text in texts)

    def _choices(self, field: Field) -> tuple[str, ...]:
        if field.path == "optimizer.type":
            usual = [name for name in (*OFFERED, *CANONICAL) if name.lower() in self.installed.optimizers]
            spelled = {name.lower() for name in usual}
            return tuple(dict.fromkeys([*usual, *(n for n in self.installed.optimizers if n not in spelled)]))
        return ("true", "false") if field.kind is Kind.BOOL else tuple(as_typed(choice) for choice in field.choices)

    def _error(self, place: Place, text: str) -> str:
        return next((_told(p, place) for p in self._brought(place, text) if p.level is Level.ERROR), "")

    def foresee(self, place: Place, text: str) -> str:
        """What a text would bring, were it taken: its gravest new problem; empty where there is none.

        Raises:
            ValueError: the text is no value of this field, with a sentence for who typed it.
        """
        return next((_told(problem, place) for problem in self._brought(place, text)), "")

    def _brought(self, place: Place, text: str) -> list[Problem]:
        if text == self.chosen(place):
            return []
        there = set(self._normalised.problems)
        new = [problem for problem in self._settled(self._with(place, text)).problems if problem not in there]
        return sorted(new, key=lambda problem: problem.level is not Level.ERROR)

    def take(self, place: Place, text: str) -> None:
        """Puts what was typed in its place; nothing typed leaves it out.

        Raises:
            ValueError: the text is no value of this field, with a sentence for who typed it.
        """
        edited = self._with(place, text)
        self._before = self.json
        self.edits += 1
        self._judge(edited)

    def use(self, config: Mapping[str, Any]) -> None:
        """Puts another configuration in place of the whole.

        Args:
            config: DeepSpeed's JSON as an object; it is left alone.
        """
        sheet = understand(config, self.installed)
        self._understood = sheet.changes
        self._before = self.json
        self.edits += 1
        self._judge(sheet.config)

    def against(self, config: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
        """What would be otherwise with another configuration: path, now, then; ``ABSENT`` where one says nothing."""
        return list(differences(self._config, self._settled(config).config))

    def _with(self, place: Place, text: str) -> dict[str, Any]:
        config = deepcopy(self._edited)
        if not text.strip():
            remove(config, place.keys)
        elif place.field is not None and text != self.text(place):
            put(config, place.keys, parse(place.field, text))
        return config


def _default(field: Field) -> str:
    default = "none" if field.default is None else as_typed(field.default) or "empty"
    bounds = [
        f"{word} {as_typed(bound)}"
        for word, bound in (("at least", field.minimum), ("at most", field.maximum))
        if bound is not None
    ]
    unit = f" {field.unit}" if field.unit and field.default is not None else ""
    return f"DeepSpeed's default: {'; '.join([default + unit, *bounds])}."


def _told(problem: Problem, place: Place) -> str:
    return problem.message if problem.field == place.path else f"{problem.field}: {problem.message}"


def _group(place: Place) -> Group | None:
    return place.field.group if place.field else None


def _searched(place: Place) -> str:
    field = place.field
    return f"{place.path} {field.group} {field.meaning} {field.effect}".lower() if field else place.path.lower()


def _other_places(config: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[Place]:
    """Every key that is neither a field nor a section of fields."""
    for key, value in config.items():
        keys = (*above, key)
        path = ".".join(f'"{name}"' if "." in name else name for name in keys)
        if path in SECTIONS and isinstance(value, dict):
            yield from _other_places(value, keys)
        elif path not in FIELDS:
            yield Place(path, keys, None)
