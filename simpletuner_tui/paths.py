"""Paths in answers: where relative ones count from."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Question

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def typed_path(text: str) -> Path:
    """A path from the command line; the home of nobody there is left as it was typed."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path's own raises for ~nobody


def is_hub_id(text: str, base: Path) -> bool:
    """Whether a text names a model on the hub: ``owner/name``, unless such a folder is there.

    The rule of diffusers' own ``from_pretrained``; ``./owner/name`` is always a path.
    """
    try:
        return HUB_ID.fullmatch(text) is not None and not (base / text).exists()
    except OSError:  # too long for a path, or in a folder that is not ours to read
        return True


def absolute(text: str, base: Path, *, hub: bool = False) -> str:
    """A path as the plan needs it; an empty one and, where ``hub`` allows it, a hub id stay as they are."""
    if not text or (hub and is_hub_id(text, base)):
        return text
    return os.path.normpath(base / os.path.expanduser(text))  # noqa: PTH111 - Path takes ./~x for somebody's home


def rebased(text: str, base: Path, folder: Path, *, hub: bool = False) -> str:
    """A path that counted from ``base`` so that it counts from ``folder``; absolute ones stay as they are."""
    if not text or text.startswith("~") or Path(text).is_absolute() or (hub and is_hub_id(text, base)):
        return text
    moved = os.path.relpath(base / text, folder)
    return moved if moved.startswith("..") else f"./{moved}"


def answers_rebased(
    answers: Mapping[str, object], base: Path, folder: Path, registry: Sequence[Question]
) -> dict[str, object]:
    """Answers whose relative paths counted from ``base`` so that they count from ``folder``.

    Args:
        answers: by id.
        base: where they counted from.
        folder: where they count from now.
        registry: which of the answers are paths.
    """
    of_paths = {question.id: question.hub for question in registry if question.kind is Kind.PATH}
    return {
        key: rebased(value, base, folder, hub=of_paths[key])
        if key in of_paths and isinstance(value, str) and folder != base
        else value
        for key, value in answers.items()
    }
