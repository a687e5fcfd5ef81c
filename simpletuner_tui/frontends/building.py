"""The DeepSpeed builder as a talk: field after field and commands between them, in lines or in prompts."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from launcher.config.setting import counted
from launcher.deepspeed.templates import find_template, templates
from launcher.errors import InvalidInputError, LauncherError, RefusedToOverwriteError
from simpletuner_tui.builder.destination import saved_line, saving_of
from simpletuner_tui.builder.drafting import draft_details, draft_of
from simpletuner_tui.builder.editing import Editing
from simpletuner_tui.builder.model import Builder, Place
from simpletuner_tui.builder.told import (
    change_line,
    count_line,
    errors_question,
    fact_lines,
    problem_line,
    template_lines,
    using_lines,
)
from simpletuner_tui.builder.walk import Walk
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.frontends.accessible import QuitWalkError
from simpletuner_tui.frontends.build_commands import COMMANDS, END, USAGE, command_in
from simpletuner_tui.paths import typed_path
from simpletuner_tui.saving import Saving
from simpletuner_tui.text import table

FOUND = 12
"""Fields that a search lists."""


class Asks(Protocol):
    """How a talk is held."""

    def say(self, text: str = "", indent: str = "") -> None:
        """A paragraph."""

    def show(self, text: str) -> None:
        """A text as it is, such as a diff."""

    def ask(self, walk: Walk) -> str:
        """What a person says to the current field: a value, a command, or nothing, which keeps what is there.

        Raises:
            QuitWalkError: they leave.
        """

    def hear(self, prompt: str) -> str:
        """One line that a person types.

        Raises:
            QuitWalkError: they leave.
        """


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a talk came to."""

    told: str
    """In a sentence."""
    saved: Path | None = None
    """The file it was saved to."""
    applied: Mapping[str, Any] | None = None
    """The configuration, where someone waits for it."""


def hold(editing: Editing, asks: Asks) -> Outcome | None:
    """Edits a configuration until it is saved, applied or left, and says what came of it.

    Returns:
        None where it was left.

    Raises:
        InvalidInputError: the input ended before.
        RefusedToOverwriteError: the input ended where it should say whether a file may be replaced.
        KeyboardInterrupt: the person leaves the prompts.
    """
    builder, drafts = editing.builder, editing.drafts
    version = builder.installed.version
    gpus = counted(str(builder.run.world_size), "GPUs")
    asks.say(f"DeepSpeed builder: {editing.path}, for DeepSpeed {version or 'which is not installed'}, {gpus}.")
    for remark in editing.remarks:
        asks.say(remark)
    asks.say(COMMANDS)
    try:
        if drafts is not None:
            _offer_draft(editing, drafts, asks)
        outcome = Talk(editing, asks).hold()
        asks.say(outcome.told)
        return outcome
    except QuitWalkError:
        kept = " What you changed is kept as a draft, and offered again." if drafts and builder.edited else ""
        asks.say(f"Nothing was {'applied' if editing.applies else 'written'}.{kept}")
        return None
    except EOFError:
        raise InvalidInputError(
            "the input ended before the configuration was saved; nothing was written. Answer one field a line, or say "
            "rest and save; --check needs no answers"
        ) from None


def _offer_draft(editing: Editing, drafts: Drafts, asks: Asks) -> None:
    builder = editing.builder
    draft = draft_of(builder, drafts) if editing.offers_draft else None
    drafts.settle(builder.written)
    if draft is None:
        return
    answer = asks.hear(f"There is a draft of it ({draft_details(draft)}). Continue the draft? [yes] > ")
    if answer.strip().lower() in ("", "y", "yes"):
        builder.use(draft.answers)
    else:
        asks.say("The file as it is; the first change replaces the draft.")


class Talk:
    """Edits one configuration by what is typed."""

    def __init__(self, editing: Editing, asks: Asks) -> None:
        """Nothing is said yet.

        Args:
            editing: what is edited.
            asks: how it is asked.
        """
        walk = Walk(editing.builder, full=editing.full)
        self._editing, self._walk, self._asks, self._drafts = editing, walk, asks, editing.drafts
        self._said: Place | None = None
        """What was told about last, and is only asked again."""
        self._topic = ""
        self._commands: dict[str, Callable[[str], None]] = {
            "back": self._back,
            "rest": lambda _: walk.rest(),
            "?": self._help,
            "help": self._help,
            "set": self._set,
            "unset": self._unset,
            "search": self._search,
            "review": self._review,
            "problems": lambda _: self._tell_problems(),
            "show": lambda _: asks.show(self._builder.json.rstrip()),
            "templates": self._templates,
            "use": self._use,
            "save": self._save,
            "apply": self._apply,
            "quit": self._quit,
        }
        self._outcome: Outcome | None = None

    @property
    def _builder(self) -> Builder:
        return self._walk.builder

    def hold(self) -> Outcome:
        """Asks field after field until it is saved or applied.

        Raises:
            QuitWalkError: the person leaves.
            EOFError: what they type has ended.
            RefusedToOverwriteError: it has ended where it should say whether a file may be replaced.
        """
        ended = False
        while self._outcome is None:
            place = self._walk.current
            if place is None and not ended:
                self._asks.say()
                self._tell_problems()
            ended = place is None
            if place is not None and place != self._said:
                self._introduce(place)
            typed = self._asks.hear(self._end) if place is None else self._asks.ask(self._walk)
            self._hear(place, typed)
        return self._outcome

    @property
    def _end(self) -> str:
        return f"{'apply' if self._editing.applies else 'save'}, {END}"

    def _introduce(self, place: Place) -> None:
        self._said = place
        if self._walk.topic != self._topic:
            self._topic = self._walk.topic
            self._asks.say()
            self._asks.say(self._topic)
            self._asks.say("-" * len(self._topic))
        number, of = self._walk.position
        facts = self._builder.facts(place)
        self._asks.say(f"{number}/{of}  {place.path}")
        for line in [*fact_lines(facts), *(problem_line(problem, place.path) for problem in facts.problems)]:
            self._asks.say(line, "    ")

    def _hear(self, place: Place | None, typed: str) -> None:
        try:
            if (command := command_in(typed)) is not None:
                word, rest = command
                self._commands[word](rest)
            elif place is None:
                if typed.strip():
                    raise ValueError("that is no command; ? lists them")
            else:
                if typed.strip():
                    self._take(place, self._walk.read(typed))
                self._walk.next()
        except RefusedToOverwriteError:
            raise
        except (LauncherError, ValueError) as error:
            for line in str(error).splitlines():
                self._asks.say(f"That does not do: {line}.", "    ")

    def _take(self, place: Place, text: str) -> None:
        brings = self._builder.foresee(place, text)
        self._builder.take(place, text)
        if brings:
            self._asks.say(f"It brings: {brings}.", "    ")
        self._keep(place)

    def _keep(self, place: Place | None) -> None:
        if self._drafts is not None:
            self._drafts.keep(self._builder.written, place.path if place else "")

    # commands

    def _back(self, _: str) -> None:
        if not self._walk.back():
            self._asks.say("This is the first field.", "    ")

    def _help(self, _: str) -> None:
        for line in table(USAGE):
            self._asks.show(f"    {line}")
        if (place := self._walk.current) is not None:
            for line in fact_lines(self._builder.facts(place)):
                self._asks.say(line, "    ")

    def _set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        place = self._named(name)
        if not value.strip():
            self._walk.visit(place)
            return
        if place.field is None:
            raise ValueError(f"{place.path} is not edited here; unset takes it out")
        self._take(place, value)
        self._told(place)

    def _unset(self, name: str) -> None:
        place = self._named(name) if name else self._walk.current
        if place is None:
            raise ValueError("name the field: unset FIELD")
        self._take(place, "")
        self._told(place)
        if not name:
            self._walk.next()

    def _told(self, place: Place) -> None:
        if self._builder.place(place.path) == place:
            self._asks.say(f"{place.path}: {self._builder.facts(place).now}", "    ")
        else:
            self._asks.say(f"{place.path} is taken out.", "    ")

    def _named(self, name: str) -> Place:
        if (place := self._builder.place(name)) is not None:
            return place
        every = [place for _, places in self._builder.listed(full=True) for place in places]
        called = [place for place in every if place.keys[-1] == name]
        if len(called) == 1:
            return called[0]
        near = difflib.get_close_matches(name, [place.path for place in every], 3, 0.5)
        named = [place.path for place in called] or near
        told = f"; is it {' or '.join(named)}" if named else "; search WORD finds one"
        raise ValueError(f"{'several fields are' if called else 'no field is'} called {name}{told}")

    def _search(self, words: str) -> None:
        found = [place for _, places in self._builder.listed(full=True, words=words) for place in places]
        if not found:
            self._asks.say(f"No field is about {words}.", "    ")
        for place in found[:FOUND]:
            value = self._builder.value(place)
            now = f" = {value}" if value else ""
            self._asks.say(f"{place.path}{now}: {place.field.meaning if place.field else 'not edited here'}", "    ")
        if len(found) > FOUND:
            self._asks.say(f"and {len(found) - FOUND} more.", "    ")

    def _review(self, _: str) -> None:
        for topic, places in self._builder.listed(full=True):
            valued = [place for place in places if self._builder.value(place)]
            if valued:
                self._asks.say(topic)
            for place in valued:
                origin = "" if self._builder.is_set(place) else ", filled in"
                self._asks.say(f"{place.path}: {self._builder.value(place)}{origin}", "    ")
        for change in self._builder.changes:
            self._asks.say(change_line(change))
        self._tell_problems()

    def _tell_problems(self) -> None:
        if not self._builder.problems:
            self._asks.say("Nothing speaks against it.")
            return
        self._asks.say(f"{count_line(self._builder)}:")
        for problem in self._builder.problems:
            self._asks.say(problem_line(problem), "    ")

    def _templates(self, _: str) -> None:
        for template in templates():
            self._asks.say(template.name)
            for line in template_lines(template):
                self._asks.say(line, "    ")

    def _use(self, name: str) -> None:
        template = find_template(name)
        for line in template_lines(template):
            self._asks.say(line)
        differences = using_lines(self._builder, template)
        for line in differences:
            self._asks.say(line, "    ")
        if not differences:
            self._asks.say(f"{name} says what is there already.")
        elif self._agreed(f"Use {name} in place of what is there?"):
            self._builder.use(template.config)
            self._keep(self._walk.current)
            self._said = None

    def _save(self, name: str) -> None:
        builder = self._builder
        if builder.errors:
            self._tell_problems()
            if not self._agreed(errors_question(builder)):
                return
        planned = saving_of(builder, typed_path(name) if name else self._editing.path)
        if planned.changes_nothing:
            told = f"{planned.path} holds exactly this already. Nothing was written."
        else:
            if planned.before is not None:
                self._asks.show("\n".join(planned.diff()))
                if not self._may_replace(planned):
                    return
            planned.write()
            told = saved_line(builder, planned)
        if self._drafts is not None:
            self._drafts.drop(builder.written)
        if self._editing.applies:
            self._asks.say(told)
        else:
            self._outcome = Outcome(told, saved=planned.path)

    def _apply(self, _: str) -> None:
        if not self._editing.applies:
            raise ValueError("there is nothing to apply it to; save writes it to a file")
        if self._builder.errors:
            self._tell_problems()
            raise ValueError("DeepSpeed would not start with it; mend the errors first")
        self._outcome = Outcome("Applied.", applied=self._builder.config)

    def _may_replace(self, planned: Saving) -> bool:
        try:
            return self._agreed(f"Replace {planned.path}, and keep it as {planned.backup.name}?")
        except EOFError:
            message = f"{planned.path} is there already and differs as shown; a line yes after save replaces it"
            raise RefusedToOverwriteError(message) from None

    def _agreed(self, question: str) -> bool:
        return self._asks.hear(f"{question} [no] > ").strip().lower() in ("y", "yes")

    def _quit(self, _: str) -> None:
        raise QuitWalkError
