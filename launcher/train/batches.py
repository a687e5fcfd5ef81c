"""Which picture, noise and timestep each step trains on: a function of the seed and the step, nothing else.

Every picture drawn has a number, counted over the whole run and over all ranks. Its place in the data order,
its noise and its timestep come from generators seeded by (seed, number), made on the CPU. So a resumed run
continues bit for bit without saving generator states, and the same global batch holds the same samples
however it is divided into ranks and micro-batches.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import torch

from launcher.train.caches import CachedDataset, Sample


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch on the training device; b pictures of latent shape (c, h, w)."""

    latents: torch.Tensor
    """(b, c, h, w) fp32, drawn from the VAE's posterior and scaled."""
    noise: torch.Tensor
    """(b, c, h, w) fp32, standard normal."""
    timesteps: torch.Tensor
    """(b,) int64."""
    prompt_embeds: torch.Tensor
    """(b, 77, d) in the training precision."""
    pooled: torch.Tensor
    """(b, p) in the training precision."""
    time_ids: torch.Tensor
    """(b, 6) in the training precision: original size, crop, target size, each (height, width)."""


@dataclass(frozen=True, slots=True)
class Division:
    """How a global batch is divided."""

    rank: int
    world_size: int
    micro_batch_size: int
    accumulation: int

    @property
    def global_batch_size(self) -> int:
        """Pictures per optimizer step over all ranks."""
        return self.micro_batch_size * self.accumulation * self.world_size

    def numbers(self, step: int, micro_step: int) -> range:
        """The numbers of the pictures in a micro-batch of this rank, at a 0-based step."""
        micro_batch = (step * self.accumulation + micro_step) * self.world_size + self.rank
        return range(micro_batch * self.micro_batch_size, (micro_batch + 1) * self.micro_batch_size)


def seeded(purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator of its own for each purpose and numbers.

    Hashed, because generators seeded with neighbouring integers start alike.
    """
    text = ":".join([purpose, *map(str, numbers)])
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
    return torch.Generator().manual_seed(seed)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, pictures: int) -> tuple[int, ...]:
    """The order in which an epoch goes through the data set."""
    return tuple(torch.randperm(pictures, generator=seeded("order", seed, epoch)).tolist())


class Batches:
    """Makes micro-batches from the caches, one ahead of the step that needs it."""

    def __init__(
        self,
        dataset: CachedDataset,
        *,
        seed: int,
        scaling_factor: float,
        timesteps: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Reads nothing yet.

        Args:
            dataset: cached latents and prompt embeddings.
            seed: of data order, noise and timesteps.
            scaling_factor: the VAE's, from latents to what the U-Net sees.
            timesteps: length of the noise schedule.
            device: where batches go.
            dtype: training precision.
        """
        self._dataset, self.seed, self._scaling_factor = dataset, seed, scaling_factor
        self._timesteps, self._device, self._dtype = timesteps, device, dtype

    def run(self, division: Division, first_step: int, last_step: int) -> Iterator[Batch]:
        """Micro-batches from a 0-based first step up to, not including, the last, in order."""
        wanted = (
            division.numbers(step, micro_step)
            for step in range(first_step, last_step)
            for micro_step in range(division.accumulation)
        )
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as reader:
            ahead = None
            for numbers in wanted:
                following = reader.submit(self._training_batch, numbers)
                if ahead is not None:
                    yield self._to_device(ahead.result())
                ahead = following
            if ahead is not None:
                yield self._to_device(ahead.result())

    def evaluation(self, indices: range, of: int) -> Batch:
        """Pictures with held-out noise: never drawn in training, the same at every call.

        Args:
            indices: which of the evaluation's pictures.
            of: how many the evaluation has; pictures and timesteps are spread evenly over them.
        """
        pictures = len(self._dataset)
        samples, noises, steps = [], [], []
        for index in indices:
            sample = self._dataset[index * pictures // of % pictures]
            generator = seeded("evaluation", self.seed, index)
            samples.append((sample, torch.randn(sample.mean.shape, generator=generator)))
            noises.append(torch.randn(sample.mean.shape, generator=generator))
            steps.append((2 * index + 1) * self._timesteps // (2 * of))
        return self._to_device(self._collate(samples, noises, steps))

    def _training_batch(self, numbers: range) -> Batch:
        pictures = len(self._dataset)
        samples, noises, steps = [], [], []
        for number in numbers:
            epoch, position = divmod(number, pictures)
            sample = self._dataset[epoch_order(self.seed, epoch, pictures)[position]]
            generator = seeded("noise", self.seed, number)
            samples.append((sample, torch.randn(sample.mean.shape, generator=generator)))
            noises.append(torch.randn(sample.mean.shape, generator=generator))
            steps.append(int(torch.randint(self._timesteps, (), generator=generator)))
        return self._collate(samples, noises, steps)

    def _collate(
        self, samples: list[tuple[Sample, torch.Tensor]], noises: list[torch.Tensor], steps: list[int]
    ) -> Batch:
        """Draws each latent from its posterior and stacks the batch, on the CPU."""
        latents = [sample.mean + sample.std * draw for sample, draw in samples]
        return Batch(
            latents=torch.stack(latents) * self._scaling_factor,
            noise=torch.stack(noises),
            timesteps=torch.tensor(steps),
            prompt_embeds=torch.stack([sample.prompt_embeds for sample, _ in samples]).to(self._dtype),
            pooled=torch.stack([sample.pooled for sample, _ in samples]).to(self._dtype),
            time_ids=torch.stack([sample.time_ids for sample, _ in samples]).to(self._dtype),
        )

    def _to_device(self, batch: Batch) -> Batch:
        return Batch(*(getattr(batch, name).to(self._device) for name in Batch.__slots__))
