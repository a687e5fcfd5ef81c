"""The data-backend file of a configuration: which pictures it trains on."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launcher.data.pictures import count
from launcher.deepspeed.fields import shown
from launcher.errors import InvalidInputError
from simpletuner_tui.simpletuner.reading import read_list
from simpletuner_tui.simpletuner.rows import Fate, Row
from simpletuner_tui.simpletuner.translations import side_of
from simpletuner_tui.simpletuner.values import is_off

_DONE_ANYWAY: Mapping[str, tuple[tuple[Any, ...], str]] = MappingProxyType(
    {
        "type": (("local",), "a folder on this machine"),
        "dataset_type": (("image",), "pictures"),
        "caption_strategy": (("textfile",), "each picture's caption is the .txt file of its name"),
        "repeats": ((0, 1, "0", "1"), "each picture once an epoch"),
        "disabled": ((False,), "it is used"),
        "disable": ((False,), "it is used"),
        "probability": ((1, 1.0), "it is the only one"),
    }
)
"""Values, by key, that say what is done with the only folder there is."""

_ELSEWHERE: Mapping[str, str] = MappingProxyType(
    {
        "id": "names the backend in its file only",
        "cache_dir_vae": "latents are computed anew and kept in training.cache_dir",
        "cache_dir": "embeddings are computed anew and kept in training.cache_dir",
        "text_embeds": "embeddings are computed anew and kept in training.cache_dir",
    }
)


@dataclass(frozen=True, slots=True)
class Backends:
    """What a data-backend file amounts to."""

    rows: tuple[Row, ...]
    pictures: int | None = None
    """How many the folder seems to have; None: it is not found."""


def read_backends(path: Path, folder: Path, settings: frozenset[str]) -> Backends:
    """The answers in a data-backend file, a row for each of its keys.

    Args:
        path: the file.
        folder: what relative paths in it count from.
        settings: names of the training's own settings.

    Raises:
        InvalidInputError: it cannot be read, or holds no list of backends.
    """
    backends = read_list(path)
    chosen = next((index for index, backend in enumerate(backends) if _is_pictures(backend)), None)
    rows: list[Row] = []
    for index, backend in enumerate(backends):
        name = f"{path.name}[{index}]"
        if index == chosen:
            rows += _of_pictures(backend, name, settings)
        else:
            rows.append(Row(f"{name} {_told_id(backend)}", Fate.LEFT, _why_not(backend, chosen)))
    found = None if chosen is None else _count(folder, backends[chosen])
    return Backends(tuple(rows), found)


def _is_pictures(backend: Mapping[str, Any]) -> bool:
    disabled = any(backend.get(key) not in (None, False) for key in ("disabled", "disable"))
    of_pictures = backend.get("dataset_type", "image") == "image" and backend.get("type", "local") == "local"
    return of_pictures and not disabled and isinstance(backend.get("instance_data_dir"), str)


def _why_not(backend: Mapping[str, Any], chosen: int | None) -> str:
    kind = backend.get("dataset_type", "image")
    if kind in ("text_embeds", "image_embeds"):
        return "caches are made anew in training.cache_dir"
    if kind != "image":
        return f"{shown(kind)} is not trained on here"
    if any(backend.get(key) not in (None, False) for key in ("disabled", "disable")):
        return "is disabled there"
    if backend.get("type", "local") != "local":
        return f"pictures from {shown(backend.get('type'))} are not read here; put them in a folder"
    if chosen is None:
        return "names no instance_data_dir"
    return "one folder is trained on here, the first; put all pictures below one"


def _of_pictures(backend: Mapping[str, Any], name: str, settings: frozenset[str]) -> Iterator[Row]:
    for key, value in backend.items():
        written = f"{name}.{key}"
        if key == "instance_data_dir":
            yield Row(written, Fate.KEPT, "", {"training.instance_data_dir": value})
        elif key == "resolution":
            yield _resolution(written, value, backend.get("resolution_type"))
        elif key == "resolution_type":
            yield Row(written, Fate.TRANSLATED, "resolution is its side in pixels")
        elif key in _DONE_ANYWAY and any(type(value) is type(one) and value == one for one in _DONE_ANYWAY[key][0]):
            yield Row(written, Fate.TRANSLATED, _DONE_ANYWAY[key][1])
        elif key in settings and key not in _ELSEWHERE:
            yield Row(written, Fate.KEPT, "", {f"training.{key}": value})
        else:
            yield Row(written, Fate.LEFT, _ELSEWHERE.get(key, "there is no such setting here"))


def _resolution(key: str, value: Any, kind: Any) -> Row:
    try:
        return Row(key, Fate.TRANSLATED, "the side in pixels", {"training.resolution": side_of(value, kind)})
    except ValueError as error:
        return Row(key, Fate.LEFT, str(error))


def _told_id(backend: Mapping[str, Any]) -> str:
    return f"({shown(backend['id'])})" if not is_off(backend.get("id")) else f"({', '.join(backend) or 'empty'})"


def _count(folder: Path, backend: Mapping[str, Any]) -> int | None:
    try:
        return count((folder / Path(backend["instance_data_dir"]).expanduser()).resolve()) or None
    except (OSError, RuntimeError, ValueError, InvalidInputError):
        return None


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
