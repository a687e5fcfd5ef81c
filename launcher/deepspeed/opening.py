"""DeepSpeed's configuration out of whatever file holds it.

That is its own JSON, a ``config.json`` with ``deepspeed_config`` in it, or a file of accelerate's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from launcher.config.accelerate import PATHS_FROM_DEEPSPEED_CONFIG
from launcher.config.setting import Level, Problem
from launcher.deepspeed.fields import shown
from launcher.deepspeed.normalise.spellings import stage_of
from launcher.deepspeed.reading import LARGEST, Read, decode, fault, read_json, read_literal, read_yaml
from launcher.errors import InvalidInputError

INLINE = "deepspeed_config"
"""The key of a config.json, and of accelerate's file, that holds a configuration."""

_REFERENCE = "deepspeed_config_file"
_NAMES = (INLINE, _REFERENCE)
"""Keys that a config.json may also write as on a command line, ``--deepspeed_config``."""

_OF_ACCELERATE = ("compute_environment", "distributed_type")
"""Keys that a file of accelerate's has one of."""

_FURTHEST = 3
"""Files that may refer to each other."""


class Form(Enum):
    """How a configuration stands in its file."""

    FILE = "the whole file"
    OBJECT = "an object under deepspeed_config"
    JSON_TEXT = "JSON in a text under deepspeed_config"
    LITERAL = "a Python literal in a text under deepspeed_config"
    ACCELERATE = "a part of accelerate's file"
    YAML = "YAML"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a configuration stands, or would stand."""

    path: Path | None
    """The file that holds it, whichever file led there; None: bytes of no file."""
    form: Form


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found in a file."""

    config: dict[str, Any] | None
    """DeepSpeed's JSON as an object, as it was written; None where the problems say why."""
    problems: tuple[Problem, ...] = ()
    origin: Origin = Origin(None, Form.FILE)


@dataclass(frozen=True, slots=True)
class _Source:
    """A text that is being read."""

    path: Path | None
    folder: Path
    """What relative paths count from."""
    further: int = _FURTHEST
    """How many more files may be referred to."""
    form: Form = Form.FILE

    def beside(self, path: str) -> "_Source":
        """A file that this one refers to."""
        try:
            found = self.folder / Path(path).expanduser()
        except RuntimeError:  # ~nobody
            found = self.folder / path
        return _Source(found, found.parent, self.further - 1)

    def opened(self, config: dict[str, Any] | None, problems: tuple[Problem, ...] = ()) -> Opened:
        return Opened(config, problems, Origin(self.path, self.form))

    def failed(self, read: Read) -> Opened:
        return self.opened(None, read.problems)


def open_file(path: Path) -> Opened:
    """The configuration in a file; relative paths in it count from its folder."""
    return _open_file(_Source(path, path.parent))


def read_config(path: Path) -> tuple[dict[str, Any], Opened]:
    """The configuration in a file, and what else was found there.

    Raises:
        InvalidInputError: it holds none.
    """
    opened = open_file(path)
    if opened.config is None:
        told = [problem.message for problem in opened.problems]
        raise InvalidInputError("\n".join(each if str(path) in each else f"{path} {each}" for each in told))
    return opened.config, opened


def open_bytes(data: bytes, folder: Path) -> Opened:
    """The configuration in a file's bytes.

    Args:
        data: JSON or YAML.
        folder: what relative paths in it count from.
    """
    return _open_bytes(data, _Source(None, folder))


def open_inline(value: Any, folder: Path) -> Opened:
    """The configuration that ``deepspeed_config`` says: an object, JSON text, a Python literal, a path, or zero1-3.

    Args:
        value: what stands there.
        folder: what relative paths in it count from.
    """
    return _open_inline(value, _Source(None, folder))


def _open_file(source: _Source) -> Opened:
    path = source.path
    assert path is not None
    if source.further == 0:
        return source.failed(fault(f"refers to file after file, {path} among them"))
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        return source.failed(fault(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"))
    return _open_bytes(data, source)


def _open_bytes(data: bytes, source: _Source) -> Opened:
    text = decode(data)
    if isinstance(text, Read):
        return source.failed(text)
    is_json = text.lstrip()[:1] in ("{", "[", '"', "/", "")
    read = read_json(text) if is_json else read_yaml(text)
    if read.problems:
        return source.failed(read)
    content = read.value
    if not isinstance(content, dict):
        return source.failed(fault(f"holds {shown(content)}, not an object"))
    content = {key.lstrip("-") if key.lstrip("-") in _NAMES else key: value for key, value in content.items()}
    if any(key in content for key in _OF_ACCELERATE):
        return _of_accelerate(content, replace(source, form=Form.ACCELERATE))
    if not is_json:
        source = replace(source, form=Form.YAML)
    if INLINE in content:
        return _open_inline(content[INLINE], source)
    return _own(content, source)


def _own(content: dict[str, Any], source: _Source) -> Opened:
    """DeepSpeed's own JSON, or one that only names the file it is in."""
    reference = content.get(_REFERENCE)
    if isinstance(reference, str) and "zero_optimization" not in content:
        return _open_file(source.beside(reference))
    return source.opened(content)


def _open_inline(value: Any, source: _Source) -> Opened:
    def inside(form: Form) -> _Source:
        return source if source.form is Form.YAML else replace(source, form=form)

    if isinstance(value, Mapping):
        return _own(dict(value), inside(Form.OBJECT))
    if not isinstance(value, str):
        message = f"must be an object, JSON text or a path, not {shown(value)}"
        return inside(Form.OBJECT).failed(fault(message, INLINE))
    text = value.strip()
    if (stage := stage_of(text)) is not None:
        return inside(Form.OBJECT).opened({"zero_optimization": {"stage": stage}})
    if not text:
        return inside(Form.OBJECT).failed(fault("is empty", INLINE))
    if not text.startswith("{"):
        return _open_file(source.beside(text))
    read = read_json(text)
    form = Form.JSON_TEXT
    if read.problems and not (literal := read_literal(text)).problems:
        read, form = literal, Form.LITERAL
    return _open_written(read, inside(form))


def _open_written(read: Read, source: _Source) -> Opened:
    """An object inside a text, as JSON or as Python writes it."""
    if isinstance(read.value, dict):
        return _own(read.value, source)
    problems = read.problems or fault(f"holds {shown(read.value)}, not an object").problems
    return source.opened(None, tuple(Problem(INLINE, problem.message, rule="file") for problem in problems))


def _of_accelerate(content: dict[str, Any], source: _Source) -> Opened:
    inline = content.get(INLINE)
    if not isinstance(inline, dict) or content.get("distributed_type") != "DEEPSPEED":
        return source.failed(fault("is a file of accelerate's that does not use DeepSpeed", INLINE))
    reference = inline.get(_REFERENCE)
    if isinstance(reference, str):
        return _open_file(source.beside(reference))
    config: dict[str, Any] = {}
    problems = []
    for key, value in inline.items():
        path = PATHS_FROM_DEEPSPEED_CONFIG.get(key)
        if path is None:
            if value:
                message = "accelerate's own: it is no part of DeepSpeed's configuration"
                problems.append(Problem(f"{INLINE}.{key}", message, Level.WARNING, "not-deepspeeds"))
            continue
        *above, last = path.split(".")
        section = config
        for name in above:
            section = section.setdefault(name, {})
        section[last] = value
    precision = content.get("mixed_precision")
    if precision in ("bf16", "fp16"):
        config[precision] = {"enabled": True}
    # The questionnaire writes no clipping where none is wanted; left out of DeepSpeed's JSON it would be 1.0.
    config.setdefault("gradient_clipping", 0.0)
    return source.opened(config, tuple(problems))
