"""Latents and prompt embeddings, computed once and kept on disk, before the U-Net is loaded.

Each picture's latents and each caption's embeddings are stored under a key made of everything they depend on, so
nothing has to be invalidated: what changed has another key.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from launcher.config.training import TrainingSettings
from launcher.data.dataset import listed
from launcher.data.pictures import Picture
from launcher.errors import InvalidInputError
from launcher.train.caches.dataset import CachedDataset, Entry
from launcher.train.caches.encode import encode_latents, encode_prompts
from launcher.train.caches.shards import WHOLE, Shards, ShardWriter
from launcher.train.caches.shards import Entry as ShardEntry
from launcher.train.dataset import tell_long_captions
from launcher.train.distributed import World
from launcher.train.known import KnownFiles
from launcher.train.memory import release
from launcher.train.models import ModelSource, cache_key
from launcher.train.report import Report

MOST_WORKERS = 8
"""Threads that decode pictures unless it is said otherwise: one VAE does not keep up with more."""
K = TypeVar("K")


def _never() -> bool:
    return False


def prepare(
    training: TrainingSettings,
    model: ModelSource,
    pictures: Sequence[Picture],
    dtype: torch.dtype,
    world: World,
    report: Report,
    prompts: Sequence[str] = (),
    stopping: Callable[[], bool] = _never,
) -> CachedDataset | None:
    """Computes what is missing, divided among the ranks; VAE and text encoders are gone afterwards.

    Args:
        training: where the caches lie.
        model: brings VAE and text encoders.
        pictures: the data set.
        dtype: of the stored prompt embeddings.
        world: the ranks.
        report: gets phases ``contents``, ``captions`` and ``latents`` and the event ``data``.
        prompts: what else is embedded beside the captions.
        stopping: whether the run should stop; asked before each picture.

    Returns:
        The data set; None where it was stopped on the way. What is computed by then is kept.

    Raises:
        InvalidInputError: a picture is damaged.
        CannotRunHereError: the cache folder is full or not writable; what was computed is kept.
        RunFailedError: the VAE gives numbers that are not finite.
    """
    folder = Path(training.data.cache_dir)
    dropped = [""] if training.captions.caption_dropout_probability else []
    captions = sorted({*(picture.caption for picture in pictures), *prompts, *dropped})
    if world.is_main:
        tell_long_captions(captions, model.tokenizer(), report)
    known = KnownFiles(folder / "known.json")
    latents, embeds = Shards(folder / "latents"), Shards(folder / "prompts")

    contents, vae, text, latents.index, embeds.index = world.on_main(
        lambda: _look(model, pictures, latents, embeds, known, report)
    )
    prompt_keys = {caption: cache_key(caption=caption, text=text, dtype=str(dtype)) for caption in captions}
    latent_keys = {
        picture: cache_key(picture=contents[picture.path], size=str(picture.bucket), vae=vae) for picture in pictures
    }
    missing_prompts = _missing(prompt_keys, embeds)
    missing_latents = _missing(latent_keys, latents)

    if missing_prompts:
        with report.phase("captions") as phase, ShardWriter(embeds) as writer:
            encode_prompts(model, _share(missing_prompts, world), dtype, world.device, writer, phase, stopping)
        release(world.device)
        _exchange(writer, known, world)
    if missing_latents and not any(world.from_all(stopping())):
        workers = training.runtime.max_workers or min(MOST_WORKERS, torch.get_num_threads())
        mine = _share(missing_latents, world)
        with report.phase("latents") as phase, ShardWriter(latents) as writer:
            faults = encode_latents(model, mine, world.device, workers, writer, phase, stopping)
        release(world.device)
        _exchange(writer, known, world)
        if damaged := [fault for each in world.from_all(faults) for fault in each]:
            raise InvalidInputError(f"these pictures are damaged; replace or remove them:\n  {listed(sorted(damaged))}")
    if not (embeds.index.keys() >= set(prompt_keys.values()) and latents.index.keys() >= set(latent_keys.values())):
        return None  # the same on every rank, as all have the same index
    report.event(
        "data",
        pictures=len(pictures),
        captions=len(captions),
        latents_computed=len(missing_latents),
        latents_cached=len(set(latent_keys.values())) - len(missing_latents),
        prompts_computed=len(missing_prompts),
        prompts_cached=len(captions) - len(missing_prompts),
    )
    entries = tuple(Entry(picture, latent_keys[picture], prompt_keys[picture.caption]) for picture in pictures)
    return CachedDataset(entries, latents, embeds, prompt_keys)


def _look(
    model: ModelSource, pictures: Sequence[Picture], latents: Shards, prompts: Shards, known: KnownFiles, report: Report
) -> tuple[dict[Path, str], str, str, dict[str, ShardEntry], dict[str, ShardEntry]]:
    """What the caches hold, and the fingerprints of everything they depend on; on one process."""
    with report.phase("contents") as phase:
        for shards in (latents, prompts):
            shards.scan(known, report.warning)
        paths = sorted({picture.path for picture in pictures})
        contents = known.contents(paths, phase.progress)
        vae, text = known.fingerprint(model.vae_files), known.fingerprint(model.text_files)
    return contents, vae, text, latents.index, prompts.index


def _missing(keys: Mapping[K, str], shards: Shards) -> dict[K, str]:
    """What is not in the caches; of those with the same key, one."""
    by_key = {key: item for item, key in keys.items() if key not in shards.index}
    return {item: key for key, item in by_key.items()}


def _share(items: Mapping[K, str], world: World) -> dict[K, str]:
    """What one rank computes of them."""
    return dict(list(items.items())[world.rank :: world.world_size])


def _exchange(writer: ShardWriter, known: KnownFiles, world: World) -> None:
    """Every rank learns what all have written; what was just written is whole."""
    for written in world.from_all(writer.written):
        writer.shards.index.update(written)
        if world.is_main:
            for name in {name for name, _ in written.values()}:
                known.put(writer.shards.folder / name, WHOLE)
    if world.is_main:
        known.save()
