"""The data-backend file of a configuration: which pictures it trains on."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launcher.data.files import count
from launcher.data.sources import NEEDS, PLACES
from launcher.deepspeed.fields import shown
from launcher.errors import InvalidInputError
from simpletuner_tui import paths
from simpletuner_tui.simpletuner.reading import read_list
from simpletuner_tui.simpletuner.rows import Fate, Row
from simpletuner_tui.simpletuner.source_keys import Backend, entries_of, said_without_a_word, say
from simpletuner_tui.simpletuner.values import is_off

_ALONE: Mapping[str, str] = MappingProxyType(
    {
        "id": "the only source needs no name",
        "type": "a folder on this machine",
        "repeats": "it is the only source: each picture is drawn as often as every other",
        "probability": "it is the only source: each picture is drawn as often as every other",
    }
)
"""What a key of the only source amounts to, where no answer says it."""


@dataclass(frozen=True, slots=True)
class Backends:
    """What a data-backend file amounts to."""

    rows: tuple[Row, ...]
    """For each key of its sources, and for each backend that is none."""
    sources: tuple[Mapping[str, object], ...] = ()
    """Entries of a file of sources; none where one folder is all, which answers can say."""
    pictures: int | None = None
    """How many an epoch seems to draw; None: not all are in folders that are found."""


def read_backends(path: Path, base: Path, listing: Path, options: Mapping[str, Any], own: frozenset[str]) -> Backends:
    """What is in a data-backend file, a row for each of its keys.

    Args:
        path: the file.
        base: the folder that relative paths in it count from.
        listing: where the file of sources would lie.
        options: of the configuration beside it.
        own: names of the training's own settings.

    Raises:
        InvalidInputError: it cannot be read, or holds no list of backends.
    """
    contents = read_list(path)
    backends = [
        Backend(chosen, tuple(entries_of(content)), options, base)
        for chosen, content in zip(_ids(contents), contents, strict=True)
    ]
    trained_on = [backend for backend in backends if not _why_not(backend)]
    alone = len(trained_on) == 1 and trained_on[0].type == "local"
    rows: list[Row] = []
    sources: list[dict[str, object]] = []
    pictures: list[int | None] = []
    for index, backend in enumerate(backends):
        name = f"{path.name}[{index}]"
        if why := _why_not(backend):
            rows.append(Row(f"{name} {_told_id(contents[index])}", Fate.LEFT, why))
            continue
        said = list(_rows(name, backend))
        source = {key: value for row in said for key, value in row.source.items()}
        pictures.append(_drawn(source, base))
        if alone:
            rows += [_by_answers(row, own) for row in said]
        else:
            rows += [replace(row, source=_placed(row.source, base, listing.parent)) for row in said]
            sources.append({"id": backend.id, **_placed(source, base, listing.parent)})
    known = [count for count in pictures if count is not None]
    return Backends(tuple(rows), tuple(sources), sum(known) if known and len(known) == len(pictures) else None)


def _ids(contents: list[dict[str, Any]]) -> Iterator[str]:
    """A name for each backend that no other has: its own, where it has one."""
    taken: set[str] = set()
    for index, content in enumerate(contents):
        own = content.get("id")
        name = own if isinstance(own, str) and own.strip() and own.isprintable() else f"source-{index}"
        while name in taken:
            name += "-again"
        taken.add(name)
        yield name


def _why_not(backend: Backend) -> str:
    """Why a backend is no source of pictures here; empty where it is one."""
    kind = backend.get("dataset_type") or "image"
    if kind in ("text_embeds", "image_embeds"):
        return "caches are made anew in training.cache_dir"
    if kind != "image":
        return f"{shown(kind)} is not trained on here"
    if any(backend.get(key) not in (None, False) for key in ("disabled", "disable")):
        return "is disabled there"
    needed = {"local": NEEDS["local"], "huggingface": NEEDS["huggingface"]}.get(str(backend.type))
    if needed is None:
        return f"pictures from {shown(backend.type)} are not read here; put them in a folder"
    place = backend.get(needed)
    if not isinstance(place, str) or not place:
        return f"names no {needed}"
    return ""


def _rows(name: str, backend: Backend) -> Iterator[Row]:
    """What became of each key of a source, and of those that it leaves out."""
    beside = {entry.name for entry in backend.entries if entry.key == entry.name}
    for entry in backend.entries:
        key = f"{name}.{entry.key}"
        if entry.key != entry.name and entry.name in beside:
            yield Row(key, Fate.LEFT, f"{entry.name} says it beside")
            continue
        try:
            said = say(entry.name, entry.value, backend)
        except ValueError as error:
            yield Row(key, Fate.LEFT, str(error))
            continue
        kept = set(said.answers) == {entry.name} and not said.how
        yield Row(key, Fate.KEPT if kept else Fate.TRANSLATED, said.how, source=said.answers)
    for left_out, said in said_without_a_word(backend):
        yield Row(f"{name}.{left_out} (left out)", Fate.TRANSLATED, said.how, source=said.answers)


def _by_answers(row: Row, own: frozenset[str]) -> Row:
    """A row of the only source, which the training's own settings say."""
    answers = {f"training.{key}": value for key, value in row.source.items() if key in own}
    if row.source and not answers:
        (key,) = row.source
        return Row(row.key, Fate.TRANSLATED, _ALONE[key])
    return Row(row.key, row.fate, row.how, answers)


def _placed(source: Mapping[str, object], base: Path, folder: Path) -> dict[str, object]:
    """The same, its paths counted from the file of sources."""
    return {
        key: paths.rebased(str(paths.typed_path(str(value))), base, folder) if key in PLACES else value
        for key, value in source.items()
    }


def _told_id(backend: Mapping[str, Any]) -> str:
    return f"({shown(backend['id'])})" if not is_off(backend.get("id")) else f"({', '.join(backend) or 'empty'})"


def _drawn(source: Mapping[str, Any], base: Path) -> int | None:
    """How many pictures of a source an epoch seems to draw; None where its folder is not found."""
    try:
        found = count((base / Path(source[NEEDS["local"]]).expanduser()).resolve())
    except (KeyError, OSError, RuntimeError, ValueError, InvalidInputError):
        return None
    return round(found * (1 + source.get("repeats", 0)) * source.get("probability", 1)) or None


def find(name: str, folders: Iterable[Path]) -> tuple[Path, Path] | None:
    """A file that a path names, and the folder from which it does; None where none has it.

    SimpleTuner counts paths from where it is started, which its configuration does not tell.

    Args:
        name: as written.
        folders: to look from, in order.
    """
    for folder in folders:
        try:
            found = folder / Path(name).expanduser()
            if found.is_file():
                return found, folder
        except (OSError, RuntimeError, ValueError):  # no path, nobody's home
            continue
    return None
