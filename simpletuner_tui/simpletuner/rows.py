"""What became of each key of a configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Fate(StrEnum):
    """What became of a key."""

    KEPT = "kept"
    """A setting of the same name says the same."""
    TRANSLATED = "translated"
    """Other answers say it, or it is done anyway."""
    LEFT = "left out"
    """It cannot be carried."""


@dataclass(frozen=True, slots=True)
class Row:
    """One key of a configuration, and what became of it."""

    key: str
    """As it stands in the file."""
    fate: Fate
    how: str
    """How it was translated, or why it cannot be carried."""
    answers: Mapping[str, object] = field(default_factory=dict)
    """By question id."""
    source: Mapping[str, object] = field(default_factory=dict)
    """What it says of a source, by the keys of a file of sources."""

    def left(self, why: str) -> "Row":
        """The same key, not carried after all."""
        return Row(self.key, Fate.LEFT, why)

    def to_json(self) -> dict[str, Any]:
        """For a program."""
        told = {"key": self.key, "outcome": self.fate, "how": self.how, "answers": dict(self.answers)}
        return told | {"source": dict(self.source)} if self.source else told
