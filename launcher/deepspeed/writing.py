"""A configuration back into the file it belongs to: on its own, or in its place among other things."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.deepspeed.opening import INLINE, Form, open_file
from launcher.deepspeed.reading import decode
from launcher.errors import InvalidInputError

_SPACE = re.compile(r"[ \t\r\n]*")
_MARK = b"\xef\xbb\xbf"
"""A byte order mark, as some editors of Windows put it before UTF-8."""


def as_json(config: Mapping[str, Any]) -> str:
    """A configuration as a file of its own."""
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def into_file(path: Path, config: Mapping[str, Any]) -> tuple[Path, bytes]:
    """Where a configuration goes that is saved under a name, and the whole of that file.

    A file that holds one under ``deepspeed_config`` keeps everything else as it stands, byte for byte; one that
    refers to another file leads there.

    Args:
        path: what is there now is read; it need not be there.
        config: DeepSpeed's JSON as an object.

    Raises:
        InvalidInputError: what is there can hold no configuration, or not all of this one.
    """
    opened = open_file(path)
    origin, home = opened.origin, opened.origin.path or path
    if origin.form is Form.FILE:
        return home, as_json(config).encode()
    if origin.form is Form.ACCELERATE:
        raise InvalidInputError(f"{home} is accelerate's, which cannot hold all of DeepSpeed's; choose another name")
    if origin.form is Form.YAML:
        raise InvalidInputError(f"{home} is YAML, and DeepSpeed reads JSON; choose another name")
    try:
        data = home.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{home} cannot be read: {error.strerror}; choose another name") from error
    if json.dumps(opened.config) == json.dumps(config):
        return home, data
    return home, _put_back(data, config, origin.form)


def _put_back(data: bytes, config: Mapping[str, Any], form: Form) -> bytes:
    """A config.json with another configuration in the place of the one it holds."""
    text = decode(data)
    assert isinstance(text, str)  # it was read before
    key_at, start, end = [place for key, *place in _members(text) if key.lstrip("-") == INLINE][-1]
    old = text[start:end]
    if form is Form.OBJECT:
        new = _like(old, text[:key_at], config)
    else:
        lines = 2 if "\\n" in old else None
        inner = repr(dict(config)) if form is Form.LITERAL else json.dumps(config, indent=lines, ensure_ascii=False)
        new = json.dumps(inner, ensure_ascii=False)
    mark = _MARK if data.startswith(_MARK) else b""
    return mark + (text[:start] + new + text[end:]).encode()


def _like(old: str, before: str, config: Mapping[str, Any]) -> str:
    """An object as JSON, in lines where the one before was, indented as the file is."""
    line = before.rpartition("\n")[2]
    starts_a_line = "\n" in before and not line.strip()
    if not starts_a_line or (old.startswith("{") and "\n" not in old):
        return json.dumps(config, ensure_ascii=False)
    text = json.dumps(config, indent=line or "  ", ensure_ascii=False)
    return text.replace("\n", ("\r\n" if "\r\n" in before else "\n") + line)


def _members(text: str) -> Iterator[tuple[str, int, int, int]]:
    """The members of the object that a JSON text is: key, where it begins, where its value begins and ends."""
    decoder = json.JSONDecoder()
    here = _after_space(text, _after_space(text, 0) + 1)
    while text[here] != "}":
        key, end = decoder.raw_decode(text, here)
        start = _after_space(text, _after_space(text, end) + 1)
        _, end = decoder.raw_decode(text, start)
        yield key, here, start, end
        here = _after_space(text, end)
        if text[here] == ",":
            here = _after_space(text, here + 1)


def _after_space(text: str, here: int) -> int:
    match = _SPACE.match(text, here)
    assert match is not None  # it matches nothing, too
    return match.end()
