"""The templates there are: those that come with the program, and those a person saved."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from launcher.config.nested import leaves
from launcher.deepspeed.examples import EXAMPLES
from launcher.deepspeed.reading import LARGEST, Read
from launcher.deepspeed.template import Template, read_template
from launcher.deepspeed.view import ABSENT
from launcher.errors import InvalidInputError, RefusedToOverwriteError
from launcher.runs.directory import write_atomic
from launcher.runs.index import state_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}")


def templates_folder() -> Path:
    """Where saved templates lie, one file each."""
    return state_folder() / "templates"


def templates() -> list[Template]:
    """All of them, the program's own first; a file that cannot be read is left out."""
    return [*EXAMPLES, *(template for path in _files() if (template := _read(path)))]


def _files() -> list[Path]:
    return sorted(templates_folder().glob("*.json"))


def _read(path: Path) -> Template | None:
    try:
        return load_template(path)
    except InvalidInputError:
        return None


def load_template(path: Path) -> Template:
    """A template from a file that someone shared.

    Raises:
        InvalidInputError: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            read = read_template(file.read(LARGEST + 1))
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}") from error
    if isinstance(read, Read):
        raise InvalidInputError(f"{path} {read.problems[0].message}")
    return read


def find_template(name: str) -> Template:
    """The template of that name.

    Raises:
        InvalidInputError: there is none; the names there are follow.
    """
    known = {template.name: template for template in templates()}
    if name not in known:
        raise InvalidInputError(f"no template is called {name}; there are {', '.join(known)}")
    return known[name]


def save_template(template: Template, *, replace: bool = False) -> Path:
    """Keeps a template for later; returns its file.

    Raises:
        InvalidInputError: its name cannot be a file's, or is one of the program's own.
        RefusedToOverwriteError: one of that name is there, and it was not asked to be replaced.
    """
    if not _NAME.fullmatch(template.name):
        raise InvalidInputError(
            f"{template.name!r} cannot name a template: letters, digits, spaces, dots, dashes and underscores, up to 64"
        )
    if any(template.name == example.name for example in EXAMPLES):
        raise InvalidInputError(f"{template.name} comes with the program; choose another name")
    path = templates_folder() / f"{template.name}.json"
    if path.exists() and not replace:
        raise RefusedToOverwriteError(f"a template {template.name} is there already ({path})")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, template.to_bytes())
    return path


def remove_template(name: str) -> Path:
    """Takes a saved template away; returns where its file was.

    Raises:
        InvalidInputError: there is none of that name, or it comes with the program.
    """
    if find_template(name) in EXAMPLES:
        raise InvalidInputError(f"{name} comes with the program; only saved templates are removed")
    path = next(path for path in _files() if (template := _read(path)) and template.name == name)
    path.unlink()
    return path


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What two configurations say differently: path, first and second value, ABSENT where one says nothing."""
    old = {".".join(keys): value for keys, value in leaves(before)}
    new = {".".join(keys): value for keys, value in leaves(after)}
    for path in {**old, **new}:
        pair = old.get(path, ABSENT), new.get(path, ABSENT)
        if pair[0] != pair[1]:
            yield path, *pair
