"""Which picture, noise and timestep each step trains on: a function of the seed and the step, nothing else.

Every picture drawn has a number, counted over the whole run and over all ranks. Which picture it is (``order.py``),
its noise and its timestep come from generators seeded by (seed, number), made on the CPU. So a resumed run
continues bit for bit without saving generator states, and the same global batch holds the same samples
however it is divided into ranks and micro-batches.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from launcher.config.training import ObjectiveSettings
from launcher.data.buckets import Size
from launcher.train.caches import CachedDataset, Sample
from launcher.train.order import Order
from launcher.train.seeds import seeded


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch on the training device; b pictures of one bucket, of latent shape (c, h, w)."""

    latents: torch.Tensor
    """(b, c, h, w) fp32, drawn from the VAE's posterior and scaled."""
    noise: torch.Tensor
    """(b, c, h, w) fp32, standard normal, with its offset."""
    timesteps: torch.Tensor
    """(b,) int64."""
    prompt_embeds: torch.Tensor
    """(b, 77, d) in the training precision."""
    pooled: torch.Tensor
    """(b, p) in the training precision."""
    time_ids: torch.Tensor
    """(b, 6) in the training precision: original size, crop, target size, each (height, width)."""
    paths: tuple[Path, ...]
    """Of the pictures."""
    perturbation: torch.Tensor | None = None
    """(b, c, h, w) fp32, added to the noise in what the U-Net sees; None where it sees the noise alone."""


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
        objective: ObjectiveSettings | None = None,
        caption_dropout: float = 0.0,
    ) -> None:
        """Reads nothing yet.

        Args:
            dataset: cached latents and prompt embeddings.
            seed: of data order, noise and timesteps.
            scaling_factor: the VAE's, from latents to what the U-Net sees.
            timesteps: length of the noise schedule.
            device: where batches go.
            dtype: training precision.
            objective: from which timesteps and with which noise; the whole schedule and plain noise by default.
            caption_dropout: how often a picture is trained on with the empty caption, from 0 to 1.
        """
        self._dataset, self.seed, self._scaling_factor = dataset, seed, scaling_factor
        self._device, self._dtype, self._caption_dropout = device, dtype, caption_dropout
        self._pictures = [entry.picture for entry in dataset.entries]
        self._objective = objective or ObjectiveSettings()
        self._timesteps = range(self._objective.min_timestep, min(self._objective.max_timestep, timesteps))

    def run(self, division: Division, first_step: int, last_step: int) -> Iterator[Batch]:
        """Micro-batches from a 0-based first step up to, not including, the last, in order."""
        order = Order(self._pictures, self.seed, division.global_batch_size)
        wanted = (
            division.numbers(step, micro_step)
            for step in range(first_step, last_step)
            for micro_step in range(division.accumulation)
        )
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as reader:
            ahead = None
            for numbers in wanted:
                following = reader.submit(self._training_batch, numbers, order)
                if ahead is not None:
                    yield self._to_device(ahead.result())
                ahead = following
            if ahead is not None:
                yield self._to_device(ahead.result())

    def evaluation_batches(self, of: int, size: int) -> list[list[int]]:
        """What an evaluation takes, in batches of one bucket each, for :meth:`evaluation`.

        Args:
            of: how many pictures the evaluation has.
            size: of a batch at the most.
        """
        by_bucket: dict[Size, list[int]] = {}
        for index in range(of):
            by_bucket.setdefault(self._pictures[self._evaluated(index, of)].bucket, []).append(index)
        return [
            indices[first : first + size] for indices in by_bucket.values() for first in range(0, len(indices), size)
        ]

    def evaluation(self, indices: Sequence[int], of: int) -> Batch:
        """Pictures with held-out noise, neither offset nor perturbed: never drawn in training, the same at every call.

        Args:
            indices: which of the evaluation's pictures, of one bucket.
            of: how many the evaluation has; pictures and timesteps are spread evenly over them.
        """
        samples, noises, steps = [], [], []
        for index in indices:
            sample = self._dataset[self._evaluated(index, of)]
            generator = seeded("evaluation", self.seed, index)
            samples.append((sample, torch.randn(sample.mean.shape, generator=generator)))
            noises.append(torch.randn(sample.mean.shape, generator=generator))
            steps.append(self._timesteps.start + (2 * index + 1) * len(self._timesteps) // (2 * of))
        return self._to_device(self._collate(samples, noises, steps))

    def _evaluated(self, index: int, of: int) -> int:
        return index * len(self._pictures) // of % len(self._pictures)

    def _training_batch(self, numbers: range, order: Order) -> Batch:
        samples, noises, steps = [], [], []
        for number in numbers:
            sample = self._dataset[order[number]]
            if self._drops_caption(number):
                sample = self._dataset.without_caption(sample)
            generator = seeded("noise", self.seed, number)
            samples.append((sample, torch.randn(sample.mean.shape, generator=generator)))
            noises.append(torch.randn(sample.mean.shape, generator=generator))
            steps.append(int(torch.randint(self._timesteps.start, self._timesteps.stop, (), generator=generator)))
        return self._disturbed(self._collate(samples, noises, steps), numbers)

    def _disturbed(self, batch: Batch, numbers: range) -> Batch:
        """With the noise offset and the input perturbed as the objective says, from draws of their own."""
        objective, channels = self._objective, batch.noise.shape[1]
        if objective.noise_offset:
            offsets = torch.stack([self._offset(number, channels) for number in numbers])
            batch = replace(batch, noise=batch.noise + objective.noise_offset * offsets)
        if objective.input_perturbation:
            shape = batch.noise.shape[1:]
            draws = [torch.randn(shape, generator=seeded("perturbation", self.seed, number)) for number in numbers]
            batch = replace(batch, perturbation=objective.input_perturbation * torch.stack(draws))
        return batch

    def _offset(self, number: int, channels: int) -> torch.Tensor:
        """(c, 1, 1), standard normal, or 0 for a picture whose noise is not offset."""
        generator = seeded("offset", self.seed, number)
        offset = torch.rand((), generator=generator) < self._objective.noise_offset_probability
        return offset * torch.randn(channels, 1, 1, generator=generator)

    def _drops_caption(self, number: int) -> bool:
        return float(torch.rand((), generator=seeded("caption", self.seed, number))) < self._caption_dropout

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
            paths=tuple(sample.path for sample, _ in samples),
        )

    def _to_device(self, batch: Batch) -> Batch:
        fields = {name: getattr(batch, name) for name in Batch.__slots__}
        tensors: dict[str, Any] = {
            name: self._moved(value) for name, value in fields.items() if isinstance(value, torch.Tensor)
        }
        return replace(batch, **tensors)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        """On the device; from memory that is not pinned the host would wait there for all that the GPU has to do."""
        return tensor.pin_memory().to(self._device, non_blocking=True) if self._device.type == "cuda" else tensor
