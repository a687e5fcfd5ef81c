"""The working copy of a configuration: every change of it is written down with its reason."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from launcher.deepspeed.fields import is_number
from launcher.deepspeed.view import ABSENT, View


@dataclass(frozen=True, slots=True)
class Change:
    """One value that reads differently than it was written."""

    field: str
    before: Any
    """:data:`ABSENT` where nothing stood."""
    after: Any
    """:data:`ABSENT` where it was taken out."""
    reason: str


class Sheet:
    """A configuration being normalised. Keys keep their place; new ones come last in their section."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config: dict[str, Any] = deepcopy(dict(config))
        self.changes: list[Change] = []
        self.view = View(self.config)

    def raw(self, path: str) -> Any:
        """What stands at a path; :data:`ABSENT` where nothing does."""
        return self.view.raw(path)

    def missing(self, path: str) -> bool:
        """Whether a value is left out, or left to someone else as ``auto``."""
        return self.raw(path) is ABSENT or self.raw(path) == "auto"

    def number(self, path: str) -> int | float | None:
        """The number at a path, if one stands there."""
        value = self.raw(path)
        return value if is_number(value) else None

    def set(self, path: str, value: Any, reason: str) -> None:
        """Writes a value; nothing happens where a key above it holds no object, which is a fault of its own."""
        *above, key = path.split(".")
        section: Any = self.config
        for name in above:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                return
        before = section.get(key, ABSENT)
        section[key] = value
        self.changes.append(Change(path, deepcopy(before), deepcopy(value), reason))

    def remove(self, path: str, reason: str) -> None:
        """Takes a value out that stands there."""
        above, _, key = path.rpartition(".")
        self.drop(above, key, reason)

    def drop(self, section: str, key: str, reason: str) -> None:
        """Takes a key out of a section, even one that holds a dot itself."""
        before = (self.raw(section) if section else self.config).pop(key)
        self.changes.append(Change(f"{section}.{key}" if section else key, before, ABSENT, reason))
