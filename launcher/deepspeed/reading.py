"""Any bytes → a JSON object, or the reasons why not. Nothing is raised, whatever the bytes are."""

import ast
import json
import math
import re
from dataclasses import dataclass
from typing import Any

import yaml

from launcher.config.setting import Problem
from launcher.deepspeed.fields import shown

LARGEST = 2**20
"""Bytes; DeepSpeed's configurations are a few thousand."""
DEEPEST = 32
"""Objects and lists within each other; DeepSpeed's configurations have four."""

FILE = "file"
"""What a problem is about that is the whole file's."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a text holds."""

    value: Any
    """Objects, lists, texts, finite numbers, true, false and null; None where there are problems."""
    problems: tuple[Problem, ...] = ()


def fault(message: str, field: str = FILE) -> Read:
    """A text that cannot be read, and why."""
    return Read(None, (Problem(field, message, rule="file"),))


def decode(data: bytes) -> str | Read:
    """Bytes as text; a byte order mark of UTF-8 is dropped."""
    if len(data) > LARGEST:
        return fault(f"is larger than {LARGEST // 2**20} MiB: no configuration of DeepSpeed's")
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return fault("is UTF-16; save it as UTF-8")
    if b"\0" in data:
        return fault("holds NUL bytes: no text, or UTF-16 or UTF-32; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return fault(f"is not UTF-8 (byte {error.start}); save it as UTF-8")


class _RefusedError(ValueError):
    """JSON that Python would take and DeepSpeed must not get."""


def read_json(text: str) -> Read:
    """A JSON text; keys that stand twice, NaN, Infinity and comments are named."""
    if not text.strip():
        return fault("is empty")
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except _RefusedError as refused:
        return fault(str(refused))
    except json.JSONDecodeError as error:
        return fault(_where(text, error))
    except RecursionError:
        return fault(f"is nested more than {DEEPEST} deep")
    except ValueError:  # Python reads no whole number of more than some thousand digits
        return fault("holds a number too large for anything")
    return plain(value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        raise _RefusedError(
            f"says {', '.join(map(shown, twice))} twice in one object; DeepSpeed refuses that, keep one"
        )
    return content


def _no_constant(name: str) -> Any:
    raise _RefusedError(f"holds {name}, which is no JSON; write a number")


_COMMENT = re.compile(r"//|/\*|#")


def _where(text: str, error: json.JSONDecodeError) -> str:
    place = f"line {error.lineno}, column {error.colno}"
    rest = text[error.pos :].lstrip()
    if _COMMENT.match(rest):
        return f"has a comment ({place}), which JSON knows not; take it out"
    if not rest:
        return f"ends too early ({place}): {error.msg}"
    return f"is not JSON ({place}): {error.msg}"


def read_literal(text: str) -> Read:
    """A value as Python writes it, such as ``{'bf16': {'enabled': True}}``."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return fault("is neither JSON nor a Python literal")
    return plain(value)


def read_yaml(text: str) -> Read:
    """A YAML text."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        return fault(f"is not YAML{place}: {getattr(error, 'problem', None) or 'it cannot be read'}")
    except RecursionError:
        return fault(f"is nested more than {DEEPEST} deep")
    except (ValueError, OverflowError, TypeError):  # dates and keys that no calendar and no dictionary has
        return fault("is not YAML: it cannot be read")
    return plain(value)


def plain(value: Any) -> Read:
    """A value as JSON could hold it: tuples become lists; what JSON has no word for is a problem."""
    try:
        return Read(_plain(value, "", 0))
    except _RefusedError as refused:
        return fault(str(refused))


def _plain(value: Any, path: str, depth: int) -> Any:
    if depth > DEEPEST:
        raise _RefusedError(f"is nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise _RefusedError(f"has the key {shown(key)}{_at(path)}, which is no text")
            _check_text(key, path)
        return {key: _plain(item, f"{path}.{key}" if path else key, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, path, depth + 1) for item in value]
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise _RefusedError(f"holds a number{_at(path)} too large for anything")
    elif value is not None and not isinstance(value, bool | int | float):
        raise _RefusedError(f"holds {shown(value)}{_at(path)}, for which JSON has no word")
    return value


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _RefusedError(f"holds half a character{_at(path)}, which cannot be written as UTF-8") from None
    if "\0" in text:
        raise _RefusedError(f"holds a NUL character{_at(path)}")


def _at(path: str) -> str:
    return f" at {path}" if path else ""
