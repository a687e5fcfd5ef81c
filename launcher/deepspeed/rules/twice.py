"""What a configuration says under two names, and not the same."""

from collections.abc import Iterator

from launcher.config.setting import Problem
from launcher.deepspeed.fields import shown
from launcher.deepspeed.other_names import MOVED
from launcher.deepspeed.view import ABSENT, View


def twice_problems(view: View) -> Iterator[Problem]:
    """Each pair of names that do not agree: which is meant, only their writer knows."""
    for moved in MOVED:
        if view.has(moved.new) and view.raw(moved.old) not in (ABSENT, None):
            here, there = moved.convert(view.raw(moved.old)), view.raw(moved.new)
            if here != there:
                message = f"says {shown(here)} and {moved.new} says {shown(there)}: keep one ({moved.reason})"
                yield Problem(moved.old, message, rule="said-twice")
