"""Pictures to look at while it trains, drawn with the U-Net in training.

Where a stage shares out the weights, a forward pass needs every rank. So pictures are divided among the ranks, and all
walk through equally many forward passes; what fails beside them is agreed on before anyone goes on. A failure here is a
warning. Weights, optimizer and what later steps draw are not touched.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from diffusers.configuration_utils import FrozenDict
from diffusers.image_processor import VaeImageProcessor

from launcher.config.training import TrainingSettings
from launcher.errors import RunFailedError
from launcher.train.caches import CachedDataset
from launcher.train.distributed import World
from launcher.train.engine import Engine
from launcher.train.memory import release
from launcher.train.models import ModelSource, first_line
from launcher.train.report import LOGGER, Phase, Report
from launcher.train.samples import Wanted, side_of, wanted, write_picture

TILE = 512
"""Side of what is decoded at once where the whole picture does not fit: a quarter of the memory that 1024 px take."""
ROOM = 691
"""MiB, at the most, that the U-Net takes beside its weights for one picture of 1024 px: what it takes in training."""
MIB = 2**20
T = TypeVar("T")
Embeds = dict[str | None, Mapping[str, torch.Tensor]]
"""``prompt_embeds`` and ``pooled`` by prompt; under None those of the negative prompt."""


class Validation:
    """Draws pictures with the U-Net in training; every rank makes every call."""

    def __init__(
        self,
        engine: Engine,
        model: ModelSource,
        training: TrainingSettings,
        dataset: CachedDataset,
        captions: Sequence[str],
        folder: Path,
        *,
        in_lockstep: bool,
        world: World,
        report: Report,
    ) -> None:
        """Draws nothing yet.

        Args:
            engine: what is drawn with.
            model: brings VAE and inference scheduler.
            training: which pictures, how large.
            dataset: holds the embeddings of the prompts.
            captions: of the data set.
            folder: gets a folder for each step drawn at.
            in_lockstep: whether a forward pass needs every rank, as at ZeRO stage 3.
            world: the ranks.
            report: gets phase ``pictures`` and the event ``pictures``, or a warning.
        """
        self._engine, self._model, self._training = engine, model, training
        self._dataset, self._folder = dataset, folder
        self._pictures = wanted(training, captions)
        self._in_lockstep = in_lockstep and world.world_size > 1
        self._world, self._report = world, report

    def after(self, step: int) -> bool:
        """Draws, where it is the step's turn, and says whether it was; a failure is a warning.

        Raises:
            RunFailedError: a forward pass failed on this rank, and others wait in it for this rank's weights.
        """
        every = self._training.validation.validation_steps
        if not every or step % every or not self._pictures:
            return False
        device = self._world.device
        started = monotonic()
        with (
            self._report.phase("pictures") as phase,
            torch.random.fork_rng([device] if device.type == "cuda" else [], device_type=device.type),
        ):
            try:
                pipeline, embeds = self._together(self._prepared)
                latents = self._together(lambda: self._denoised(pipeline, embeds, phase))
                told = self._together(lambda: self._decoded(latents, self._folder / f"step-{step}"))
            except _NotDrawnError as fault:
                self._report.warning(f"the pictures of step {step} could not be drawn: {fault}")
                return True
            finally:
                release(device)
            rows = self._world.from_all(told)
        self._report.event(
            "pictures",
            step=step,
            path=str(self._folder / f"step-{step}"),
            prompts=[picture.prompt for picture in self._pictures],
            pictures=sorted((row for pictures, _ in rows for row in pictures), key=lambda row: str(row["path"])),
            seconds=round(monotonic() - started, 3),
            vram_mib=[reserved for _, reserved in rows],
        )
        return True

    def _together(self, action: Callable[[], T]) -> T:
        """What an action gives on this rank, once it went well on all."""
        result, fault = None, None
        try:
            result = action()
        except _StuckError:
            raise
        except Exception as error:  # whatever it is, training goes on
            LOGGER.exception("pictures")
            fault = f"{type(error).__name__}: {first_line(error)}"
        faults = [other for other in self._world.from_all(fault) if other]
        if faults:
            raise _NotDrawnError(faults[0])
        return result  # type: ignore[return-value]

    def _prepared(self) -> tuple[StableDiffusionXLPipeline, Embeds]:
        """A pipeline around the engine, and the embeddings."""
        release(self._world.device)
        if self._in_lockstep and self._world.device.type == "cuda":
            self._require_room()
        pipeline = self._model.drawing_pipeline()
        unet = _InTraining(self._engine, self._model.unet_config, self._world.device)
        pipeline.register_modules(unet=unet)
        pipeline.vae_scale_factor = self._model.vae_scale_factor
        pipeline.set_progress_bar_config(disable=True)
        negative = self._training.validation.validation_negative_prompt
        embeds: Embeds = {picture.prompt: self._dataset.prompt(picture.prompt) for picture in self._pictures}
        embeds[None] = against = self._dataset.prompt(negative)
        if not negative and pipeline.config.force_zeros_for_empty_prompt:
            embeds[None] = {name: torch.zeros_like(tensor) for name, tensor in against.items()}
        unet.dtype = against["prompt_embeds"].dtype
        return pipeline, embeds

    def _require_room(self) -> None:
        """Where a rank that runs out of memory within the U-Net would leave the others waiting, none begins."""
        needed = self._copies * ROOM * (side_of(self._training) / 1024) ** 2
        free = torch.cuda.mem_get_info(self._world.device)[0] / MIB
        if free < needed:
            raise RuntimeError(f"{free:.0f} MiB of GPU memory are free, and a picture may take {needed:.0f} MiB")

    @property
    def _copies(self) -> int:
        """How many pictures the U-Net sees for one: guidance takes two."""
        return 2 if self._training.validation.validation_guidance > 1 else 1

    def _denoised(self, pipeline: StableDiffusionXLPipeline, embeds: Embeds, phase: Phase) -> dict[int, torch.Tensor]:
        """Latents of this rank's pictures by number: past the last one it draws that again, for the others' sake."""
        unet, world = pipeline.unet, self._world
        latents, fault = {}, None
        rounds = -(-len(self._pictures) // world.world_size)
        self._engine.evaluating(True)
        try:
            for turn in range(rounds):
                number = turn * world.world_size + world.rank
                picture = self._pictures[min(number, len(self._pictures) - 1)]
                unet.passes = 0
                if fault is None:
                    try:
                        drawn = self._draw(pipeline, picture, embeds)
                    except Exception as error:  # told to the others once they need nothing of this rank
                        fault = error
                    else:
                        if number < len(self._pictures):
                            latents[number] = drawn
                if fault is not None:
                    self._catch_up(unet, embeds[picture.prompt], fault)
                phase.progress(turn + 1, rounds)
        finally:
            self._engine.evaluating(False)
        if fault is not None:
            raise fault
        return latents

    def _draw(self, pipeline: StableDiffusionXLPipeline, picture: Wanted, embeds: Embeds) -> torch.Tensor:
        validation, side = self._training.validation, side_of(self._training)
        mine, negative = embeds[picture.prompt], embeds[None]
        latents: torch.Tensor = pipeline(
            prompt_embeds=mine["prompt_embeds"][None],
            pooled_prompt_embeds=mine["pooled"][None],
            negative_prompt_embeds=negative["prompt_embeds"][None],
            negative_pooled_prompt_embeds=negative["pooled"][None],
            height=side,
            width=side,
            num_inference_steps=validation.validation_num_inference_steps,
            guidance_scale=validation.validation_guidance,
            generator=torch.Generator().manual_seed(picture.seed),
            output_type="latent",
        ).images
        return latents

    @torch.no_grad()
    def _catch_up(self, unet: "_InTraining", embeds: Mapping[str, torch.Tensor], fault: Exception) -> None:
        """Makes the forward passes of a picture that this rank left, which the others wait for."""
        if not self._in_lockstep:
            return
        if unet.inside:
            raise _StuckError(fault) from fault
        validation = self._training.validation
        scheduler = self._model.drawing_pipeline().scheduler
        scheduler.set_timesteps(validation.validation_num_inference_steps)
        copies = self._copies
        side = side_of(self._training) // self._model.vae_scale_factor
        channels = self._model.unet_config["in_channels"]
        zeros = {name: torch.zeros(copies, *tensor.shape, dtype=unet.dtype) for name, tensor in embeds.items()}
        conditioning = {
            "encoder_hidden_states": zeros["prompt_embeds"].to(unet.device),
            "added_cond_kwargs": {
                "text_embeds": zeros["pooled"].to(unet.device),
                "time_ids": torch.zeros(copies, 6, dtype=unet.dtype, device=unet.device),
            },
        }
        sample = torch.zeros(copies, channels, side, side, dtype=unet.dtype, device=unet.device)
        now = torch.zeros((), dtype=torch.long, device=unet.device)
        try:
            for _ in range(len(scheduler.timesteps) - unet.passes):
                unet(sample, now, **conditioning, return_dict=False)
        except Exception as error:
            raise _StuckError(error) from error

    @torch.no_grad()
    def _decoded(self, latents: Mapping[int, torch.Tensor], folder: Path) -> tuple[list[dict[str, Any]], int]:
        """Writes this rank's pictures; returns what the event tells of them, and MiB of GPU memory held at the peak."""
        if not latents:
            return [], 0
        vae = self._model.vae().to(self._world.device)
        processor = VaeImageProcessor(vae_scale_factor=self._model.vae_scale_factor)
        rows = []
        for number, latent in latents.items():
            pixels = decode(vae, latent.float() / self._model.vae_scaling_factor)
            picture = processor.postprocess(pixels, output_type="pil")[0]
            rows.append(write_picture(picture, folder, number, self._pictures[number]))
        on_gpu = self._world.device.type == "cuda"
        return rows, torch.cuda.memory_reserved(self._world.device) // MIB if on_gpu else 0


class _NotDrawnError(Exception):
    """A rank failed, and all of them left off together."""


class _StuckError(RunFailedError):
    """A rank failed where the others wait for it."""

    def __init__(self, fault: Exception) -> None:
        super().__init__(
            f"while pictures were drawn a process failed within the U-Net ({type(fault).__name__}: "
            f"{first_line(fault)}), and at ZeRO stage 3 the others wait there for its weights; draw smaller pictures "
            "(training.validation_resolution) or none, and start the run again: it continues from the newest checkpoint"
        )


class _InTraining(torch.nn.Module):
    """The engine, as a pipeline knows a U-Net."""

    def __init__(self, engine: Engine, config: FrozenDict, device: torch.device) -> None:
        super().__init__()
        self._engine, self.config, self.device = engine, config, device
        self.dtype = torch.float32
        self.passes = 0
        """Forward passes begun."""
        self.inside = False
        """Whether one of them did not end."""
        width = config["projection_class_embeddings_input_dim"]
        self.add_embedding = SimpleNamespace(linear_1=SimpleNamespace(in_features=width))

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        *,
        timestep_cond: None = None,
        cross_attention_kwargs: None = None,
        **conditioning: Any,
    ) -> Any:
        """The engine's own, each timestep for the whole batch, as in training."""
        self.passes += 1
        self.inside = True
        predicted = self._engine(sample, timestep.to(sample.device).expand(len(sample)), **conditioning)
        self.inside = False
        return predicted


def decode(vae: AutoencoderKL, latents: torch.Tensor) -> torch.Tensor:
    """Pixels of latents, on the CPU; where the GPU is too full they are decoded in tiles, and at last on the CPU."""
    pixels: torch.Tensor
    for retreat in (_into_tiles, _onto_cpu, None):
        try:
            pixels = vae.decode(latents.to(vae.device)).sample.cpu()
            break
        except torch.OutOfMemoryError:
            if retreat is None:
                raise
            retreat(vae)
        release(latents.device)
    return pixels


def _into_tiles(vae: AutoencoderKL) -> None:
    vae.enable_tiling()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // factor


def _onto_cpu(vae: AutoencoderKL) -> None:
    vae.to("cpu")
