"""Keys of a source of pictures that SimpleTuner has: a function for each that is said otherwise here, by name.

What is called as a setting of ``launcher.config.training.sources`` and means the same needs none: it is kept.
Meanings and defaults are those of SimpleTuner's ``documentation/DATALOADER.md`` and ``ImageBackendConfig``.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launcher.config.setting import Setting, declarations
from launcher.config.training import DataSettings
from launcher.config.training.sources import SourceSettings
from launcher.data.sources import IN_GROUP, OF_ROWS
from launcher.deepspeed.fields import shown
from simpletuner_tui import paths
from simpletuner_tui.simpletuner.reading import Entry
from simpletuner_tui.simpletuner.said import Said
from simpletuner_tui.simpletuner.translations import side_of
from simpletuner_tui.simpletuner.values import is_off, number, switch, whole, word

SETTINGS: Mapping[str, Setting] = MappingProxyType({each.key: each for each in declarations(SourceSettings)})
PIXELS = next(each for each in declarations(DataSettings) if each.key == "resolution")
GROUPS = ("parquet", "huggingface")
MEGAPIXELS_AT_MOST = 10
"""Up to here SimpleTuner takes a size in ``pixel_area`` for megapixels."""
CAPTIONS_WITHOUT_A_WORD: Mapping[str, str] = MappingProxyType({"local": "filename", "huggingface": OF_ROWS})
"""Where captions are, by type, of a source that does not say it."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A source of pictures as it stands in SimpleTuner's file."""

    id: str
    """What it is called here: no two sources have the same name."""
    entries: tuple[Entry, ...]
    """Its keys; those in groups are named ``group.key``, or as what they are here."""
    options: Mapping[str, Any]
    """Of the configuration beside it: they hold where the source says nothing."""
    base: Path
    """What relative paths count from."""

    def get(self, name: str) -> Any:
        """What it says; what stands beside a group holds over what stands in it. None: nothing."""
        said = [entry for entry in self.entries if entry.name == name]
        return next((entry.value for entry in sorted(said, key=lambda entry: "." in entry.key)), None)

    @property
    def type(self) -> Any:
        """``local``, ``huggingface``, or another."""
        return self.get("type") or "local"

    @property
    def resolution_type(self) -> Any:
        """Its own, or that of all."""
        own = self.get("resolution_type")
        return self.options.get("resolution_type") if own is None else own


Translation = Callable[[Any, Backend], Said]
"""What a source says here, by key; raises ValueError with the reason where nothing can say it."""


def entries_of(backend: Mapping[str, Any]) -> Iterator[Entry]:
    """The keys of a source, those in groups too."""
    for key, value in backend.items():
        if key in GROUPS and isinstance(value, Mapping):
            yield from (Entry(f"{key}.{inner}", IN_GROUP.get(inner, f"{key}.{inner}"), value[inner]) for inner in value)
        else:
            yield Entry(key, key, value)


def say(name: str, value: Any, backend: Backend) -> Said:
    """What a key amounts to here.

    Args:
        name: of the key.
        value: as it stands there; null leaves a key to its default.
        backend: all of the source.

    Raises:
        ValueError: with the reason why it cannot be carried.
    """
    if value is None:
        return Said({}, "null leaves it to its default")
    return TRANSLATIONS.get(name, _same(name))(value, backend)


def said_without_a_word(backend: Backend) -> Iterator[tuple[str, Said]]:
    """What SimpleTuner does where a source is silent, and would not be done here."""
    if backend.get("id") is None:
        yield "id", Said({"id": backend.id}, "every source has a name")
    silent = backend.get("caption_strategy") is None and backend.options.get("caption_strategy") is None
    if backend.get("caption_strategy") is None and backend.type == "huggingface":
        silent = True  # it is no folder, whatever the configuration says of folders
    if silent and not _instance_prompt_alone(backend):
        chosen = CAPTIONS_WITHOUT_A_WORD[backend.type]
        yield "caption_strategy", Said({"caption_strategy": chosen}, "what SimpleTuner does then")


def _same(name: str) -> Translation:
    def keep(value: Any, _: Backend) -> Said:
        if name not in SETTINGS:
            raise ValueError("there is no such setting of a source here")
        return Said({name: _checked(name, value)}, "")

    return keep


def _checked(name: str, value: Any) -> Any:
    """A value as the setting takes it; a number or a switch may stand there as text."""
    declared = SETTINGS[name]
    typed = {bool: switch, int: whole, float: number}.get(declared.kind)
    return declared.parse(typed(value) if typed else value)


def _only(wanted: tuple[object, ...], what: str, otherwise: str) -> Translation:
    def check(value: Any, _: Backend) -> Said:
        if any(type(value) is type(each) and value == each for each in wanted):
            return Said({}, what)
        raise ValueError(otherwise)

    return check


def _needless(what: str) -> Translation:
    return lambda _, __: Said({}, what)


def _elsewhere(why: str) -> Translation:
    def refuse(_: Any, __: Backend) -> Said:
        raise ValueError(why)

    return refuse


def _id(value: Any, backend: Backend) -> Said:
    if value == backend.id:
        return Said({"id": value}, "")
    return Said({"id": backend.id}, "a name that no other source has")


def _data_set(value: Any, backend: Backend) -> Said:
    name = _checked("dataset_name", value)
    place = paths.absolute(name, backend.base)
    if os.path.isdir(place):  # noqa: PTH112 - Path.is_dir raises where it may not look
        return Said({"dataset_name": place}, "a folder on this machine")
    return Said({"dataset_name": name}, "")


def _repeats(value: Any, _: Backend) -> Said:
    return Said({"repeats": _checked("repeats", value or 0)}, "")


def _probability(value: Any, _: Backend) -> Said:
    if is_off(value) or number(value) == 0:
        return Said({"probability": 1.0}, "0 is the same as 1 there")
    return Said({"probability": _checked("probability", value)}, "the share of its pictures that an epoch draws")


def _instance_prompt_alone(backend: Backend) -> bool:
    return backend.get("only_instance_prompt") in (True, "true")


def _caption_strategy(value: Any, backend: Backend) -> Said:
    if _instance_prompt_alone(backend):
        return Said({}, "only_instance_prompt holds over it")
    chosen = {"instance_prompt": "instanceprompt"}.get(word(value), word(value))
    if chosen == OF_ROWS and backend.type == "huggingface":
        return Said({"caption_strategy": OF_ROWS}, "")
    return Said({"caption_strategy": _checked("caption_strategy", chosen)}, "")


def _only_instance_prompt(value: Any, _: Backend) -> Said:
    if switch(value):
        return Said({"caption_strategy": "instanceprompt"}, "the caption of every picture is instance_prompt")
    return Said({}, "captions are each picture's own")


def _caption_column(value: Any, _: Backend) -> Said:
    if isinstance(value, list) and len(value) == 1:
        return Said({"caption_column": _checked("caption_column", value[0])}, "the only one")
    if not isinstance(value, str):
        raise ValueError("captions are in one column here; name it as caption_column")
    return Said({"caption_column": _checked("caption_column", value)}, "")


def _resolution(value: Any, backend: Backend) -> Said:
    kind = backend.resolution_type
    side = PIXELS.parse(side_of(value, kind))
    how = f"{shown(value)} megapixels are {side} x {side}" if kind == "area" else ""
    return Said({"resolution": side}, how)


def _resolution_type(value: Any, _: Backend) -> Said:
    side_of(1, value)  # refuses what is none
    if word(value) == "area":
        return Said({"resolution_type": "pixel_area"}, "resolution stands in pixels")
    return Said({"resolution_type": word(value)}, "")


def _crop(value: Any, backend: Backend) -> Said:
    if switch(value) and (backend.get("crop_aspect") or "square") != "square":
        return Said({"crop": False}, "aspect buckets: each picture is cropped to the aspect nearest to its own")
    return Said({"crop": switch(value)}, "")


def _crop_aspect(value: Any, backend: Backend) -> Said:
    if not switch(backend.get("crop") or False):
        return Said({}, "crop is off")
    if word(value) in ("square", "closest", "preserve"):
        return Said({}, "is crop" if word(value) == "square" else "aspect buckets do that")
    raise ValueError("a picture has one aspect bucket here, the nearest to its own aspect")


def _crop_style(value: Any, backend: Backend) -> Said:
    if word(value) == "center" or not switch(backend.get("crop") or False):
        return Said({}, "pictures are cropped in the middle")
    raise ValueError("pictures are cropped in the middle here")


def _minimum_image_size(value: Any, backend: Backend) -> Said:
    size, kind = number(value), backend.resolution_type
    if size == 0:
        return Said({"minimum_image_size": 1}, "none is left out, and small ones are enlarged")
    if kind == "pixel":
        return Said({"minimum_image_size": _checked("minimum_image_size", size)}, "")
    if kind == "area" or size <= MEGAPIXELS_AT_MOST:
        size = round(math.sqrt(max(0.0, size) * 1e6))
    how = "the shorter side in pixels: there it is the side of a square of the smallest area"
    return Said({"minimum_image_size": _checked("minimum_image_size", size)}, how)


def _aspect_ratio(_: Any, backend: Backend) -> Said:
    """SimpleTuner's bounds are width to height, here there is one for both orientations: the wider of the two."""
    bounds = []
    for name in ("maximum_aspect_ratio", "minimum_aspect_ratio"):
        if (said := backend.get(name)) is not None:
            bound = number(said)
            if bound <= 0 or (name == "minimum_aspect_ratio") != (bound <= 1):
                raise ValueError("one bound holds for both orientations here, longer side to shorter")
            bounds.append(bound if name == "maximum_aspect_ratio" else 1 / bound)
    widest = _checked("maximum_aspect_ratio", round(max(bounds), 6))
    return Said({"maximum_aspect_ratio": widest}, "longer side to shorter, of both orientations")


_LATENTS = "latents are computed anew and kept in training.cache_dir"
_EMBEDDINGS = "embeddings are computed anew and kept in training.cache_dir"
_FILLED = "pictures are scaled to fill their bucket before they are cropped"
_SIZES = "sizes are read from the pictures themselves"
_LOOKED_AT = "what is cached and unchanged is not read again, without a setting"
_FROM_THE_START = "a source is drawn from the first step to the last"

TRANSLATIONS: Mapping[str, Translation] = MappingProxyType(
    {
        "id": _id,
        "dataset_type": _only(("image",), "pictures", "only pictures are trained on here"),
        **dict.fromkeys(("disabled", "disable"), _needless("it is used")),
        "dataset_name": _data_set,
        "repeats": _repeats,
        "probability": _probability,
        "caption_strategy": _caption_strategy,
        "caption_column": _caption_column,
        "only_instance_prompt": _only_instance_prompt,
        "prepend_instance_prompt": _only(
            (False, "false"), "captions stay as they are", "captions stay as they are: write instance_prompt into them"
        ),
        "disable_multiline_split": _only(
            (True, "true"), "a text file is one caption", "a text file is one caption, of however many lines"
        ),
        "resolution": _resolution,
        "resolution_type": _resolution_type,
        "crop": _crop,
        "crop_aspect": _crop_aspect,
        "crop_style": _crop_style,
        "minimum_image_size": _minimum_image_size,
        **dict.fromkeys(("maximum_aspect_ratio", "minimum_aspect_ratio"), _aspect_ratio),
        **dict.fromkeys(("maximum_image_size", "target_downsample_size"), _needless(_FILLED)),
        **dict.fromkeys(
            ("metadata_backend", *(f"{group}.{side}_column" for group in GROUPS for side in ("width", "height"))),
            _needless(_SIZES),
        ),
        "parquet.identifier_includes_extension": _needless("a name may leave out its suffix"),
        **dict.fromkeys(
            ("skip_file_discovery", "preserve_data_backend_cache", "hash_filenames", "vae_cache_clear_each_epoch"),
            _needless(_LOOKED_AT),
        ),
        "start_epoch": _only((0, 1), _FROM_THE_START, _FROM_THE_START),
        "start_step": _only((0, 1), _FROM_THE_START, _FROM_THE_START),
        **dict.fromkeys(
            ("delete_unwanted_images", "delete_problematic_images", "delete_nsfw_images"),
            _only((False,), "no picture is ever deleted", "no picture is ever deleted"),
        ),
        **dict.fromkeys(
            ("is_regularisation_data", "is_regularization_data"),
            _only((False,), "it is trained on as all others", "it would be trained on as all others: take it out"),
        ),
        **dict.fromkeys(
            ("cache_dir_vae", "image_embeds", "vae_cache_ondemand", "vae_cache_disable"), _elsewhere(_LATENTS)
        ),
        **dict.fromkeys(("cache_dir", "text_embeds"), _elsewhere(_EMBEDDINGS)),
        "huggingface.cache_dir": _elsewhere("is where downloads of the hub are kept: set HF_HOME"),
    }
)
"""By name; they hold over a setting of the same name."""
