"""The data set as training reads it: one sample after another, from the caches."""

from dataclasses import dataclass
from pathlib import Path

import torch

from launcher.data.pictures import Picture
from launcher.train.caches.shards import Shards
from launcher.train.pictures import geometry


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
    """A picture with the keys of its parts in the caches."""

    picture: Picture
    latents: str
    prompt: str


@dataclass(frozen=True, slots=True)
class CachedDataset:
    """The data set as caches; reading is thread-safe.

    Raises:
        RunFailedError: a cache file is gone or damaged.
    """

    entries: tuple[Entry, ...]
    latents: Shards
    prompts: Shards

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        latents, prompt = self.latents.read(entry.latents), self.prompts.read(entry.prompt)
        return Sample(
            path=entry.picture.path,
            mean=latents["mean"],
            std=latents["std"],
            prompt_embeds=prompt["prompt_embeds"],
            pooled=prompt["pooled"],
            time_ids=geometry(entry.picture).time_ids(),
        )
