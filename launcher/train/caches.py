"""Latents and prompt embeddings, computed once and kept on disk, before the U-Net is loaded.

Each picture's latents and each caption's embeddings are a safetensors file named by everything they depend on,
so nothing has to be invalidated: what changed has another name.
"""

import errno
import gc
import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save

from launcher.config.training import TrainingSettings
from launcher.data.dataset import listed
from launcher.data.pictures import Picture
from launcher.errors import CannotRunHereError, InvalidInputError, RunFailedError
from launcher.runs.directory import write_atomic
from launcher.train.dataset import tell_long_captions
from launcher.train.distributed import World
from launcher.train.models import ModelSource, cache_key
from launcher.train.pictures import geometry, load_pixels
from launcher.train.report import Phase, Report

READERS = 4
"""Threads that decode pictures ahead of the VAE."""
PROMPTS_AT_ONCE = 16
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture as training needs it, on the CPU."""

    path: Path
    mean: torch.Tensor
    """(c, h, w) fp32, of the VAE's posterior, not scaled."""
    std: torch.Tensor
    """(c, h, w) fp32."""
    prompt_embeds: torch.Tensor
    """(77, d)."""
    pooled: torch.Tensor
    """(p,)."""
    time_ids: torch.Tensor
    """(6,) fp32."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the parts of a sample lie."""

    picture: Picture
    latents: Path
    prompt: Path


@dataclass(frozen=True, slots=True)
class CachedDataset:
    """The data set as caches; reading is thread-safe.

    Raises:
        RunFailedError: a cache file is gone or damaged.
    """

    entries: tuple[Entry, ...]
    unprompted: Path | None = None
    """Where the embeddings of the empty caption lie; None where nothing needs them."""

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        latents, prompt = _load(entry.latents), _load(entry.prompt)
        return Sample(
            path=entry.picture.path,
            mean=latents["mean"],
            std=latents["std"],
            prompt_embeds=prompt["prompt_embeds"],
            pooled=prompt["pooled"],
            time_ids=geometry(entry.picture).time_ids(),
        )

    def without_caption(self, sample: Sample) -> Sample:
        """The sample with the embeddings of the empty caption."""
        assert self.unprompted is not None, "captions are dropped only where the settings say so"
        prompt = _load(self.unprompted)
        return replace(sample, prompt_embeds=prompt["prompt_embeds"], pooled=prompt["pooled"])


def prepare(
    training: TrainingSettings,
    model: ModelSource,
    pictures: Sequence[Picture],
    dtype: torch.dtype,
    world: World,
    report: Report,
) -> CachedDataset:
    """Computes what is missing, divided among the ranks; VAE and text encoders are gone afterwards.

    Args:
        training: where the caches lie.
        model: brings VAE and text encoders.
        pictures: the data set.
        dtype: of the stored prompt embeddings.
        world: the ranks.
        report: gets phases ``captions`` and ``latents`` and the event ``data``.

    Raises:
        InvalidInputError: a picture is damaged.
        CannotRunHereError: the cache folder is full or not writable; what was computed is kept.
        RunFailedError: the VAE gives numbers that are not finite.
    """
    folder = Path(training.data.cache_dir)
    unprompted = {""} if training.captions.caption_dropout_probability else set()
    captions = sorted({picture.caption for picture in pictures} | unprompted)
    if world.is_main:
        tell_long_captions(captions, model.tokenizer(), report)
    prompt_paths = {
        caption: _path(folder / "prompts", caption=caption, text=model.text_fingerprint, dtype=str(dtype))
        for caption in captions
    }
    latent_paths = [
        _path(
            folder / "latents",
            picture=_content(picture.path),
            size=str(picture.bucket),
            vae=model.vae_fingerprint,
        )
        for picture in pictures
    ]
    # Two equal pictures share one file; every rank finds the same list before anyone writes.
    missing_prompts = [caption for caption in captions if not _is_whole(prompt_paths[caption])]
    picture_of = dict(zip(latent_paths, pictures, strict=True))
    missing_latents = [picture for path, picture in picture_of.items() if not _is_whole(path)]
    path_of = dict(zip(pictures, latent_paths, strict=True))
    world.barrier()
    if missing_prompts:
        with report.phase("captions") as phase:
            _encode_prompts(model, _share(missing_prompts, world), prompt_paths, dtype, world.device, phase)
            world.barrier()
    if missing_latents:
        with report.phase("latents") as phase:
            mine = _share(missing_latents, world)
            damaged = _encode_latents(model, mine, path_of, world.device, phase)
            _refuse_damaged([fault for faults in world.from_all(damaged) for fault in faults])
    report.event(
        "data",
        pictures=len(pictures),
        captions=len(captions),
        latents_computed=len(missing_latents),
        latents_cached=len(set(latent_paths)) - len(missing_latents),
        prompts_computed=len(missing_prompts),
        prompts_cached=len(captions) - len(missing_prompts),
    )
    entries = tuple(
        Entry(picture, path, prompt_paths[picture.caption])
        for picture, path in zip(pictures, latent_paths, strict=True)
    )
    return CachedDataset(entries, prompt_paths.get(""))


def _share(items: Sequence[T], world: World) -> Sequence[T]:
    return items[world.rank :: world.world_size]


@torch.no_grad()
def _encode_prompts(
    model: ModelSource,
    captions: Sequence[str],
    paths: dict[str, Path],
    dtype: torch.dtype,
    device: torch.device,
    phase: Phase,
) -> None:
    """The pipeline's own encode_prompt: its padding, truncation, penultimate states and pooled embedding."""
    pipeline = model.prompt_pipeline().to(device)
    done = 0
    for first in range(0, len(captions), PROMPTS_AT_ONCE):
        some = list(captions[first : first + PROMPTS_AT_ONCE])
        embeds, _, pooled, _ = pipeline.encode_prompt(some, device=device, do_classifier_free_guidance=False)
        for caption, one, one_pooled in zip(some, embeds, pooled, strict=True):
            _store(paths[caption], {"prompt_embeds": one.to(dtype), "pooled": one_pooled.to(dtype)})
        done += len(some)
        phase.progress(done, len(captions))
    del pipeline
    _release(device)


@torch.no_grad()
def _encode_latents(
    model: ModelSource,
    pictures: Sequence[Picture],
    paths: dict[Picture, Path],
    device: torch.device,
    phase: Phase,
) -> list[str]:
    """Encodes the pictures that can be decoded; returns what is wrong with the others."""
    vae = model.vae().to(device)
    damaged: list[str] = []
    for done, (picture, pixels) in enumerate(_decoded(pictures, damaged), start=1):
        posterior = vae.encode(pixels[None].to(device)).latent_dist
        mean, std = posterior.mean[0].float(), posterior.std[0].float()
        if not (mean.isfinite().all() and std.isfinite().all()):
            raise RunFailedError(
                f"the VAE in {model.vae_folder} gives numbers that are not finite for {picture.path}; use "
                "another with training.pretrained_vae_model_name_or_path, or remove the picture"
            )
        _store(paths[picture], {"mean": mean, "std": std})
        phase.progress(done, len(pictures))
    del vae
    _release(device)
    return damaged


def _decoded(pictures: Sequence[Picture], damaged: list[str]) -> Iterator[tuple[Picture, torch.Tensor]]:
    """Pictures with their pixels, decoded a few ahead; those that cannot be are added to ``damaged``."""

    def decode(picture: Picture) -> torch.Tensor | None:
        try:
            return load_pixels(picture)
        except (OSError, ValueError, SyntaxError) as error:
            damaged.append(f"{picture.path}: {error}")
            return None

    with ThreadPoolExecutor(READERS, thread_name_prefix="pictures") as pool:
        for first in range(0, len(pictures), 4 * READERS):
            some = pictures[first : first + 4 * READERS]
            for picture, pixels in zip(some, pool.map(decode, some), strict=True):
                if pixels is not None:
                    yield picture, pixels


def _refuse_damaged(faults: Sequence[str]) -> None:
    """Names all damaged pictures at once."""
    if faults:
        raise InvalidInputError(f"these pictures are damaged; replace or remove them:\n  {listed(sorted(faults))}")


def _path(folder: Path, **dependencies: object) -> Path:
    key = cache_key(**dependencies)
    return folder / key[:2] / f"{key}.safetensors"


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_whole(path: Path) -> bool:
    """Whether a cache file is there and uncut; a damaged one counts as missing and is written anew."""
    try:
        with safe_open(path, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def _load(path: Path) -> dict[str, torch.Tensor]:
    """Read, not mapped into memory: where a disk fails later, a mapping ends the process without a word."""
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise RunFailedError(
            f"{path} was cached before training and cannot be read now ({error}); start the run again: what is "
            "missing is computed anew, and it continues from the newest checkpoint"
        ) from error


def _store(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        why = "is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else f"fails: {os.strerror(error.errno or 0)}"
        raise CannotRunHereError(
            f"the disk of the cache folder {path.parents[2]} {why}; make room or choose another with "
            "training.cache_dir. What is cached already is kept"
        ) from error


def _release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
