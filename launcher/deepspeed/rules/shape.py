"""What no rule need know the meaning of: types and bounds, and keys nobody reads."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from launcher.config.setting import Level, Problem
from launcher.deepspeed.fields import FIELDS, LEFT_OUT, SECTIONS, STRICT, shown
from launcher.deepspeed.installed import Installed
from launcher.deepspeed.view import View

_NAMED_BY_RULES = ("optimizer.params", "scheduler.params")
"""Sections whose unknown keys are a TypeError of the class, which a rule names."""

_TAKEN_FOR_ANOTHER = {"aio.thread_count": "aio.intra_op_parallelism"}
"""Names in DeepSpeed's documents that its code does not read."""


def shape_problems(view: View, installed: Installed) -> Iterator[Problem]:
    """Every fault of type and bounds, and every key that DeepSpeed refuses or ignores."""
    yield from _section("", view.config, installed)


def _section(above: str, content: Mapping[str, Any], installed: Installed) -> Iterator[Problem]:
    for key, value in content.items():
        path = f"{above}.{key}" if above else str(key)
        if "." in str(key):
            yield _unknown(above, path)
        elif path in SECTIONS:
            if isinstance(value, Mapping):
                yield from _section(path, value, installed)
            elif value is not None or not path.startswith("zero_optimization."):
                yield Problem(path, f"must be an object, not {shown(value)}", rule="type")
        elif path in FIELDS:
            yield from _value(path, value)
        elif path in installed.removed:
            message = "removed from DeepSpeed, which refuses a file that holds it, even off; take it out"
            yield Problem(path, message, rule="removed")
        elif path in LEFT_OUT:
            yield Problem(path, f"kept, but not offered here: {LEFT_OUT[path]}", Level.WARNING, "not-offered")
        elif above not in _NAMED_BY_RULES:
            yield _unknown(above, path)


def _value(path: str, value: object) -> Iterator[Problem]:
    if value == "auto" and path.rpartition(".")[0] in STRICT:
        message = f"DeepSpeed takes auto for its default, {shown(FIELDS[path].default)}; say what is meant"
        yield Problem(path, message, Level.WARNING, "auto")
    elif path not in ("optimizer.type", "scheduler.type") and (fault := FIELDS[path].fault(value)):
        yield Problem(path, fault, rule="type")


def _unknown(above: str, path: str) -> Problem:
    # By their last key: what stands before it is the same for all and would make anything alike.
    known = {field.rpartition(".")[2]: field for field in FIELDS if field.rpartition(".")[0] == above}
    near = difflib.get_close_matches(path.removeprefix(f"{above}."), known, 1)
    close = _TAKEN_FOR_ANOTHER.get(path) or (known[near[0]] if near else None)
    meant = f"; did you mean {close}?" if close else ""
    if above in STRICT:
        return Problem(
            path, f"DeepSpeed knows no such key here and does not start{meant or '; take it out'}", rule="key"
        )
    return Problem(path, f"kept, but DeepSpeed reads no such key{meant}", Level.WARNING, "key")
