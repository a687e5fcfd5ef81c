"""How a topic of training.json is asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from launcher.config.setting import Setting
from simpletuner_tui.questions.conditions import AllOf, Condition, Context, Is
from simpletuner_tui.questions.derive import question_of
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question

PREFIX = "training."
GATES = "ask."
"""Ids of the questions that only decide what else is asked."""


@dataclass(frozen=True, slots=True)
class Topic:
    """The words for the settings of one topic; what they are and may be is declared in ``launcher.config.training``."""

    section: str
    """The heading."""
    texts: Mapping[str, str]
    """How each setting is asked, by key."""
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    """What is asked only sometimes, by key."""
    only_given: frozenset[str] = frozenset()
    """Keys that are never asked, and hold where a file or an option brings them."""
    gate: str = ""
    """Asked first, where most leave the whole topic at its defaults: no passes over it."""
    gate_help: str = ""
    unchanged: str = "defaults"
    """What holds where it is passed over, in a few words."""

    def questions(self, name: str, settings: list[Setting]) -> Iterator[Question]:
        """The questions of the topic, in the order of its settings.

        Args:
            name: of the topic.
            settings: its declarations.
        """
        if self.gate:
            yield self._gate(name, settings)
        for declared in settings:
            when = self.conditions.get(declared.key)
            if self.gate and declared.key not in self.only_given:
                opened = Is(GATES + name, True)
                when = opened if when is None else AllOf(opened, when)
            question = question_of(declared, PREFIX + declared.key, self.texts[declared.key], self.section, when=when)
            yield replace(question, if_answered=declared.key in self.only_given)

    def _gate(self, name: str, settings: list[Setting]) -> Question:
        behind = frozenset(PREFIX + declared.key for declared in settings if declared.key not in self.only_given)

        def answered_behind(context: Context) -> bool:
            return not behind.isdisjoint(context.given)

        return Question(
            id=GATES + name,
            kind=Kind.YES_NO,
            text=self.gate,
            section=self.section,
            default=answered_behind,
            help=self.gate_help,
            unchanged=self.unchanged,
        )
