"""What a run takes of each GPU, phase by phase: torch's tensors, what torch holds, and the process.

A step that was traced is played back (:mod:`launcher.estimate.playback`); until it is, formulas stand in
(:mod:`launcher.estimate.formulas`). What a process takes beside torch's memory, and what its libraries take within it,
are constants: measured with torch 2.11 on an H200 (``benchmarks/predictions``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from launcher.config.nccl import has_few_channels
from launcher.config.settings import Settings
from launcher.data.sources import largest_picture
from launcher.estimate.adapter import trained
from launcher.estimate.engine_facts import EngineFacts, engine_facts
from launcher.estimate.formulas import start_bytes, step_bytes
from launcher.estimate.gpu import CUBLAS, STATES, WEIGHTS, Peak
from launcher.estimate.model import ModelFacts
from launcher.estimate.parts import MIB, Part, Phase
from launcher.estimate.playback import CUBLAS_BYTES, Played, play
from launcher.estimate.trace import Trace
from launcher.estimate.traces import find, step_of

CONTEXT, CONTEXT_MIB, SEVERAL_CONTEXT_MIB = "CUDA context", 320, 518
"""MiB: a process alone leaves CUDA's stacks small (``launcher.train.cuda_context``)."""
KERNELS, KERNELS_MIB, TRAINING_KERNELS_MIB = "kernels and libraries of CUDA", 238, 76
"""MiB that stay of them in memory: once captions and pictures are encoded (measured on a run that did nothing else),
and more once it trains (measured on two runs that found their caches: 94 before the engine, 162 with it, 314 in
steps)."""
NCCL = "NCCL"
NCCL_MIB = (698, 1184, 1262)
"""MiB on each of two H200s with NVLink under DeepSpeed: once ranks have exchanged anything, once the engine is there
(896 at stage 3), and once it has trained. Elsewhere and without DeepSpeed it is taken for as much. One process creates
none (``launcher.train.single_process``)."""
FEW_CHANNELS_MIB = (250, 268, 374)
"""The same with few channels (``launcher.config.nccl``), at stage 3."""
GROUP_MIB, FEW_CHANNELS_GROUP_MIB = 390, 18
"""MiB of one more group of ranks, in which DeepSpeed writes its checkpoints: that of one rank, and what the engine's
took."""
PAGES = "page tables of pinned memory"
PAGE, PAGE_ENTRY = 4096, 8
"""Bytes: the GPU keeps an entry for each page of host memory that is pinned. nvidia-smi counts it to no process."""

CUDNN = "workspaces of cuDNN"
CUDNN_MIB, CUDNN_PIECES_MIB, SMALLEST_CUDNN_MIB = 11, 24, 45
"""Allocated at the peak of a step for each 1024 x 1024 pixels of a micro-batch, and held in pieces that fit nothing
else; and for the gradient of one weight, however small pictures are."""
UNUSED = "held by torch between tensors"
BEFORE_MIB = 20
"""Held for what was there before the engine."""
AVERAGE = "moving average"

CAPTIONS = "captions and layers of the text encoders"
CAPTIONS_MIB, LAYERS_MIB, WORDS_MIB = 513, 50, 387
"""MiB of a batch of captions in SDXL's text encoders, in fp32; of the layers that compute and come next; and what torch
holds for such layers: as much as the largest take, the vectors of the words."""
ENCODING, ENCODER_MIB, ENCODING_PEAK, STRIPS_MIB = "VAE and a picture while it is encoded", 130, 1036.0, 98
"""MiB of the half of SDXL's VAE that encodes, in fp32; of a picture of 1024 x 1024 between convolutions, linear in
pixels; and at the most of the strips that are convolved, with cuDNN's workspace."""
HELD_WHILE_ENCODING = 1.05
"""What torch holds while it does, in times of it."""
DECODING, VAE_MIB, DECODING_PEAK = "VAE and a picture while it is decoded", 319, 4882.0
"""MiB of SDXL's VAE in fp32, and what it takes to decode one picture of 1024 x 1024: linear in pixels."""
HELD_WHILE_DECODING = 1.17
"""What torch holds while it does, in times of it."""
TILE = 512
"""Side of the tiles in which a picture is decoded where there is no room for it whole."""


def gpu_phases(settings: Settings, model: ModelFacts, pinned_mib: float) -> tuple[Phase, ...]:
    """What each GPU holds at the peak of each phase.

    Args:
        settings: of the run.
        model: its sizes.
        pinned_mib: host memory that a process pins.
    """
    joined, started, trained_with, wrote = _nccl(settings)
    context = CONTEXT_MIB if settings.launch.num_processes == 1 else SEVERAL_CONTEXT_MIB
    before = {CONTEXT: context, KERNELS: KERNELS_MIB, NCCL: joined}
    init = {**before, NCCL: started, PAGES: pinned_mib * PAGE_ENTRY / PAGE}
    training = {**init, NCCL: trained_with, KERNELS: KERNELS_MIB + TRAINING_KERNELS_MIB}
    saved = {**training, NCCL: wrote}

    trace = find(step_of(settings, model))
    inside = _played(trace, settings, model) if trace else _by_formula(settings, model)
    # Weights are read into host memory; what encoding pictures has begun stays.
    cublas = CUBLAS_BYTES / MIB
    phases = [
        _phase("load", _Inside({CUBLAS: cublas}, held=cublas + BEFORE_MIB), before),
        _phase("init", inside.start, init),
        _phase("step", inside.step, training),
    ]
    if model.is_sdxl:
        phases.insert(0, _phase("caching", _encoding(settings), before))
    validation = settings.training.validation
    if model.is_sdxl and validation.validation_steps and validation.num_validation_images:
        phases.append(_phase("validation", _decoding(settings, inside.resident), training))
    phases.append(_phase("save", _Inside(inside.resident, held=inside.step.reserved), saved))
    return tuple(phases)


def average_bytes(settings: Settings, model: ModelFacts) -> float:
    """A moving average in fp32, of all ranks together: shared out as the masters are, before stage 1 rank 0's alone."""
    return 4 * trained(settings.training.adapter, model).parameters if settings.training.ema.use_ema else 0


@dataclass(frozen=True, slots=True)
class _Inside:
    """torch's memory at a peak, in MiB."""

    parts: Mapping[str, float]
    """Of its tensors."""
    held: float = 0
    """By torch, where that is more than its tensors."""
    needed: float = 0
    """Of that, what cannot be given back, where that is more than its tensors."""

    @property
    def allocated(self) -> float:
        return sum(self.parts.values())

    @property
    def reserved(self) -> float:
        return max(self.held, self.allocated)


@dataclass(frozen=True, slots=True)
class _Engine:
    """torch's memory at the peak of an engine's start, of its steps, and between them."""

    start: _Inside
    step: _Inside
    resident: Mapping[str, float]


def _phase(name: str, inside: _Inside, beside: Mapping[str, float]) -> Phase:
    parts = {**beside, **inside.parts, UNUSED: inside.reserved - inside.allocated}
    rounded = tuple(Part(part, round(mib)) for part, mib in parts.items() if mib >= 0.5)
    least = round(sum(beside.values()) + max(inside.allocated, inside.needed))
    return Phase(
        name,
        rounded,
        allocated_mib=round(inside.allocated),
        reserved_mib=round(inside.reserved),
        least_mib=min(least, sum(part.mib for part in rounded)),
    )


def _played(trace: Trace, settings: Settings, model: ModelFacts) -> _Engine:
    facts = engine_facts(settings, trained(settings.training.adapter, model))
    latents = largest_picture(settings.training) // model.pixels_per_latent
    played = _play(trace, facts, settings.training.optimization.train_batch_size, latents)
    average = _average_on_gpu(settings, model)
    pictures = _megapixels(settings)

    def inside(peak: Peak, beside: Mapping[str, float], pieces: float) -> _Inside:
        parts = {**{name: size / MIB for name, size in peak.parts.items()}, **beside}
        more = sum(beside.values())
        held = peak.reserved / MIB + more + pieces
        return _Inside(parts, held=held, needed=min(peak.needed / MIB + more, held))

    # What one weight's gradient takes finds room in what is held already.
    least = max(0, SMALLEST_CUDNN_MIB - CUDNN_MIB * pictures)
    workspaces = CUDNN_MIB * pictures + least
    step = inside(played.step, {CUDNN: workspaces, **average}, CUDNN_PIECES_MIB * pictures - least)
    resident = {name: size / MIB for name, size in played.resident.items()} | average
    return _Engine(inside(played.start, {}, BEFORE_MIB), step, resident)


@lru_cache(maxsize=256)
def _play(trace: Trace, facts: EngineFacts, pictures: int, latents: int) -> Played:
    return play(trace, facts, pictures=pictures, latents=latents)


def _by_formula(settings: Settings, model: ModelFacts) -> _Engine:
    """Formulas say what is allocated; what torch holds beside it nobody knows."""
    cublas, average, pictures = CUBLAS_BYTES / MIB, _average_on_gpu(settings, model), _megapixels(settings)
    start = {name: size / MIB for name, size in start_bytes(settings, model).items()} | {CUBLAS: cublas}
    step = {name: size / MIB for name, size in step_bytes(settings, model).items()} | average | {CUBLAS: 2 * cublas}
    resident = {name: mib for name, mib in step.items() if name in (WEIGHTS, STATES, AVERAGE, CUBLAS)}
    workspaces = {CUDNN: CUDNN_MIB * pictures} if model.is_sdxl else {}
    return _Engine(_Inside(start), _Inside(step | workspaces), resident)


def _encoding(settings: Settings) -> _Inside:
    """Captions, then pictures: whichever take more."""
    cublas, between = CUBLAS_BYTES / MIB, ENCODING_PEAK * largest_picture(settings.training) / 1024**2
    captions = _Inside({CUBLAS: cublas, CAPTIONS: CAPTIONS_MIB + LAYERS_MIB}, held=cublas + CAPTIONS_MIB + WORDS_MIB)
    picture = {CUBLAS: cublas, ENCODING: ENCODER_MIB + between + min(between, STRIPS_MIB)}
    pictures = _Inside(picture, held=sum(picture.values()) * HELD_WHILE_ENCODING)
    return max(captions, pictures, key=lambda inside: inside.reserved)


def _decoding(settings: Settings, resident: Mapping[str, float]) -> _Inside:
    """A picture between steps: decoded whole, or in tiles where there is no room."""
    side = settings.training.validation.validation_resolution or settings.training.data.resolution
    whole, tile = (DECODING_PEAK * (pixels / 1024) ** 2 for pixels in (side, min(side, TILE)))
    before = sum(resident.values()) + VAE_MIB
    return _Inside({**resident, DECODING: VAE_MIB + tile}, held=before + whole * HELD_WHILE_DECODING)


def _nccl(settings: Settings) -> tuple[int, int, int, int]:
    """MiB on each GPU: from the beginning, once the engine is there, in steps, and once it has saved."""
    if settings.launch.num_processes == 1:
        return 0, 0, 0, 0
    few = has_few_channels(settings)
    joined, started, steps = FEW_CHANNELS_MIB if few else NCCL_MIB
    group = FEW_CHANNELS_GROUP_MIB if few else GROUP_MIB
    return joined, started, steps, steps + group * _deepspeed_saves(settings)


def _deepspeed_saves(settings: Settings) -> bool:
    return settings.launch.deepspeed and settings.training.checkpoints.checkpoint_contents != "weights"


def _megapixels(settings: Settings) -> float:
    """Of a micro-batch, in those of 1024 x 1024."""
    return settings.training.optimization.train_batch_size * largest_picture(settings.training) / 1024**2


def _average_on_gpu(settings: Settings, model: ModelFacts) -> dict[str, float]:
    if settings.training.ema.ema_device != "accelerator":
        return {}
    share = settings.launch.num_processes if settings.deepspeed.stage else 1
    return {AVERAGE: average_bytes(settings, model) / share / MIB}
