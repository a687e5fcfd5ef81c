"""DeepSpeed's configuration out of whatever file holds it.

That is its own JSON, a ``config.json`` with ``deepspeed_config`` in it, or a file of accelerate's.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.config.accelerate import PATHS_FROM_DEEPSPEED_CONFIG
from launcher.config.setting import Level, Problem
from launcher.deepspeed.fields import shown
from launcher.deepspeed.normalise.spellings import stage_of
from launcher.deepspeed.reading import LARGEST, Read, decode, fault, read_json, read_literal, read_yaml

_INLINE = "deepspeed_config"
_REFERENCE = "deepspeed_config_file"
_NAMES = (_INLINE, _REFERENCE)
"""Keys that a config.json may also write as on a command line, ``--deepspeed_config``."""

_OF_ACCELERATE = ("compute_environment", "distributed_type")
"""Keys that a file of accelerate's has one of."""

_FURTHEST = 3
"""Files that may refer to each other."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was found in a file."""

    config: dict[str, Any] | None
    """DeepSpeed's JSON as an object, as it was written; None where the problems say why."""
    problems: tuple[Problem, ...] = ()


def open_file(path: Path) -> Opened:
    """The configuration in a file; relative paths in it count from its folder."""
    return _open_file(path, _FURTHEST)


def open_bytes(data: bytes, folder: Path) -> Opened:
    """The configuration in a file's bytes.

    Args:
        data: JSON or YAML.
        folder: what relative paths in it count from.
    """
    return _open_bytes(data, folder, _FURTHEST)


def open_inline(value: Any, folder: Path) -> Opened:
    """The configuration that ``deepspeed_config`` says: an object, JSON text, a Python literal, a path, or zero1-3.

    Args:
        value: what stands there.
        folder: what relative paths in it count from.
    """
    return _open_inline(value, folder, _FURTHEST)


def _open_file(path: Path, further: int) -> Opened:
    if further == 0:
        return _failed(fault(f"refers to file after file, {path} among them"))
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        return _failed(fault(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"))
    return _open_bytes(data, path.parent, further)


def _open_bytes(data: bytes, folder: Path, further: int) -> Opened:
    text = decode(data)
    if isinstance(text, Read):
        return _failed(text)
    begins = text.lstrip()[:1]
    read = read_json(text) if begins in ("{", "[", '"', "/", "") else read_yaml(text)
    if read.problems:
        return _failed(read)
    content = read.value
    if not isinstance(content, dict):
        return _failed(fault(f"holds {shown(content)}, not an object"))
    content = {key.lstrip("-") if key.lstrip("-") in _NAMES else key: value for key, value in content.items()}
    if any(key in content for key in _OF_ACCELERATE):
        return _of_accelerate(content, folder, further)
    if _INLINE in content:
        return _open_inline(content[_INLINE], folder, further)
    return _own(content, folder, further)


def _own(content: dict[str, Any], folder: Path, further: int) -> Opened:
    """DeepSpeed's own JSON, or one that only names the file it is in."""
    reference = content.get(_REFERENCE)
    if isinstance(reference, str) and "zero_optimization" not in content:
        return _open_file(_beside(reference, folder), further - 1)
    return Opened(content)


def _open_inline(value: Any, folder: Path, further: int) -> Opened:
    if isinstance(value, Mapping):
        return _own(dict(value), folder, further)
    if not isinstance(value, str):
        return _failed(fault(f"must be an object, JSON text or a path, not {shown(value)}", _INLINE))
    text = value.strip()
    if (stage := stage_of(text)) is not None:
        return Opened({"zero_optimization": {"stage": stage}})
    if text.startswith("{"):
        return _open_written(text, folder, further)
    return _open_file(_beside(text, folder), further - 1) if text else _failed(fault("is empty", _INLINE))


def _open_written(text: str, folder: Path, further: int) -> Opened:
    """An object inside a text, as JSON or as Python writes it."""
    read = read_json(text)
    if read.problems:
        literal = read_literal(text)
        read = read if literal.problems else literal
    if isinstance(read.value, dict):
        return _own(read.value, folder, further)
    problems = read.problems or fault(f"holds {shown(read.value)}, not an object").problems
    return Opened(None, tuple(Problem(_INLINE, problem.message, rule="file") for problem in problems))


def _of_accelerate(content: dict[str, Any], folder: Path, further: int) -> Opened:
    inline = content.get(_INLINE)
    if not isinstance(inline, dict) or content.get("distributed_type") != "DEEPSPEED":
        return _failed(fault("is a file of accelerate's that does not use DeepSpeed", _INLINE))
    reference = inline.get(_REFERENCE)
    if isinstance(reference, str):
        return _open_file(_beside(reference, folder), further - 1)
    config: dict[str, Any] = {}
    problems = []
    for key, value in inline.items():
        path = PATHS_FROM_DEEPSPEED_CONFIG.get(key)
        if path is None:
            if value:
                message = "accelerate's own: it is no part of DeepSpeed's configuration"
                problems.append(Problem(f"{_INLINE}.{key}", message, Level.WARNING, "not-deepspeeds"))
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
    return Opened(config, tuple(problems))


def _beside(path: str, folder: Path) -> Path:
    try:
        return folder / Path(path).expanduser()
    except RuntimeError:  # ~nobody
        return folder / path


def _failed(read: Read) -> Opened:
    return Opened(None, read.problems)
