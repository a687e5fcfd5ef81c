"""The sources of pictures that settings name: one folder, or those that a file lists."""

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from launcher.config.setting import declarations, read_topic
from launcher.config.training import TrainingSettings
from launcher.config.training.sources import SourceSettings
from launcher.data.buckets import MAXIMUM_ASPECT, Bucketing
from launcher.data.pictures import Fitting
from launcher.errors import InvalidInputError

KEYS = tuple(field.name for field in fields(SourceSettings))
PLACES = tuple(declared.key for declared in declarations(SourceSettings) if declared.path)
NEEDS = {"local": "instance_data_dir", "huggingface": "dataset_name", "parquet": "parquet_path"}
"""What a source of each type must name."""
OF_ROWS = "huggingface"
"""SimpleTuner's ``caption_strategy`` of rows: the caption is in a column."""
NEEDS_OF_CAPTIONS = {"instanceprompt": "instance_prompt", "parquet": "parquet_path"}
BESIDE = ("dataset_type", "disabled", "disable", "parquet", "huggingface")
"""Keys of SimpleTuner's that are no settings of a source: whether it is one, and groups of settings."""
IN_GROUP = {"path": "parquet_path", "split": "split", "dataset_config": "dataset_config"} | {
    key: key for key in ("dataset_name", "image_column", "caption_column", "filename_column")
}
"""Keys of SimpleTuner's groups ``parquet`` and ``huggingface``, by what they are here."""


def read_sources(training: TrainingSettings) -> tuple[SourceSettings, ...]:
    """Every source, with the training's settings where it has none of its own; its resolution is in pixels.

    Raises:
        InvalidInputError: names every fault of the file, or what a caption strategy lacks.
    """
    if not training.sources.data_backend_config:
        if lacking := _lacking(one := _one_folder(training), "training."):
            raise InvalidInputError(lacking)
        return (one,)
    file = Path(training.sources.data_backend_config)
    shared = {key: value for key, value in _shared(training).items() if key != "instance_data_dir"}
    faults: list[str] = []
    sources = [
        source
        for number, entry in enumerate(_entries(file), start=1)
        if (source := _read(number, entry, shared, file.parent, faults)) is not None
    ]
    names = [source.id for source in sources]
    faults += [f"{name}: two sources have this id" for name in sorted({n for n in names if n and names.count(n) > 1})]
    if not sources and not faults:
        faults.append("no source of pictures is in it")
    if faults:
        raise InvalidInputError(f"{file} cannot be used yet:\n  " + "\n  ".join(faults))
    return tuple(sources)


def fitting(training: TrainingSettings, source: SourceSettings) -> Fitting:
    """Which bucket takes which picture of a source."""
    most = source.maximum_aspect_ratio
    bucketing = Bucketing(
        resolution=int(source.resolution),
        square=source.crop,
        shorter_side=source.resolution_type == "pixel",
        alignment=training.preparation.aspect_bucket_alignment,
        maximum_aspect=max(1.0, most) if most else MAXIMUM_ASPECT,
    )
    return Fitting(bucketing, source.minimum_image_size, most)


def bucketings(training: TrainingSettings) -> tuple[Bucketing, ...]:
    """How each source's pictures are shared out; where sources cannot be read, as the training's settings say."""
    try:
        sources = read_sources(training)
    except InvalidInputError:  # told where pictures are looked for
        sources = (_one_folder(training),)
    return tuple(fitting(training, source).bucketing for source in sources)


def largest_picture(training: TrainingSettings) -> int:
    """Pixels of the largest bucket that pictures may come to lie in."""
    return max(bucketing.largest for bucketing in bucketings(training))


def _shared(training: TrainingSettings) -> dict[str, Any]:
    """The training's settings that are settings of a source too."""
    return {key: value for key, value in training.to_json().items() if key in KEYS}


def _one_folder(training: TrainingSettings) -> SourceSettings:
    return SourceSettings(**_shared(training))


def _entries(file: Path) -> list[object]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidInputError(f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{file} is no JSON: {error}") from error
    if not isinstance(content, list):
        raise InvalidInputError(f"{file} must hold a list of sources, [{{...}}, ...]")
    return content


def _read(
    number: int, entry: object, shared: Mapping[str, object], folder: Path, faults: list[str]
) -> SourceSettings | None:
    if not isinstance(entry, dict):
        faults.append(f"entry {number} must be an object, not {entry!r:.40}")
        return None
    name = entry.get("id") or f"entry {number}"
    if entry.get("disabled") or entry.get("disable") or entry.get("dataset_type") == "text_embeds":
        return None  # caches of embeddings are the training's own
    if (kind := entry.get("dataset_type", "image")) != "image":
        faults.append(f"{name}: dataset_type {kind!r} is not trained on here; only image is")
        return None
    values = dict(_flat(entry))
    if values.get("caption_strategy") == OF_ROWS:
        values["caption_strategy"] = "textfile"  # of rows any but instanceprompt says that
    faults += [f"{name}: {key} is not a setting of a source{_nearest(key)}" for key in values if key not in KEYS]
    parsed, problems = read_topic(SourceSettings, {**shared, **values}, name)
    faults += [f"{name}: {problem.field.removeprefix(f'{name}.')} {problem.message}" for problem in problems]
    if problems:
        return None
    some: Any = parsed
    source = SourceSettings(**some)
    placed: dict[str, Any] = {key: str(folder / path) for key in PLACES if (path := getattr(source, key))}
    source = replace(source, **placed)
    if lacking := _lacking(source, ""):
        faults.append(f"{name}: {lacking}")
    if source.resolution_type == "area":
        pixels = math.sqrt(source.resolution * 1e6)
        source = replace(source, resolution=round(pixels), resolution_type="pixel_area")
    if source.resolution < 16 or source.resolution > 4096 or source.resolution != int(source.resolution):
        faults.append(f"{name}: resolution must be a whole number of px from 16 to 4096, not {source.resolution:g}")
    return source


def _flat(entry: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """The settings of an entry, those in groups too."""
    for key, value in entry.items():
        if key in ("parquet", "huggingface") and isinstance(value, dict):
            yield from ((IN_GROUP.get(inner, f"{key}.{inner}"), given) for inner, given in value.items())
        elif key not in BESIDE:
            yield key, value


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, KEYS, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(KEYS)}"


def _lacking(source: SourceSettings, prefix: str) -> str:
    """What a source needs and does not name, in words."""
    if not getattr(source, NEEDS[source.type]):
        return f"a source of type {source.type} needs {prefix}{NEEDS[source.type]}"
    needed = NEEDS_OF_CAPTIONS.get(source.caption_strategy, "")
    if needed and not getattr(source, needed) and (source.type == "local" or needed == "instance_prompt"):
        return f"caption_strategy {source.caption_strategy} needs {prefix}{needed}"
    return ""
