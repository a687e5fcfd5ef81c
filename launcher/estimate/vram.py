"""What a run takes of each GPU, while its engine is built and while it trains.

SDXL's U-Net in half precision is played back (:mod:`launcher.estimate.playback`). For what has no trace, a LoRA, fp32
or another model, formulas stand in, as DeepSpeed allocates per stage and offload: measured by counting tensors after a
step on one rank, and read in the code for more. Of a LoRA, gradients, masters and states are those of its matrices; the
frozen U-Net counts wherever weights are, at stage 3 in partitions.
"""

from collections.abc import Mapping
from functools import lru_cache

from launcher.config.settings import Settings
from launcher.data.sources import bucketings
from launcher.estimate.adapter import trained
from launcher.estimate.engine_facts import EngineFacts, engine_facts, master_bytes, moments
from launcher.estimate.gpu import Peak
from launcher.estimate.model import ModelFacts
from launcher.estimate.parts import MIB, Part, Phase, in_mib
from launcher.estimate.playback import Played, play
from launcher.estimate.trace import shipped

CONTEXT, CONTEXT_MIB = "CUDA context and kernels", 1396
"""What a training process takes outside torch's allocator on an H200: 526 for the CUDA context, the rest for kernels
and NCCL; the same at every stage, batch and size."""
WORKSPACES, WORKSPACES_MIB = "workspaces of cuBLAS and cuDNN", 155
"""What is allocated for them in torch's allocator, at the most: 67 MiB at 128 px, up to 155 at 1024 px on an H200."""
UNUSED = "held by torch between tensors"
AVERAGE = "moving average"

CHECKPOINTED_PEAK = 691.0
"""MiB of activations at the peak for one picture of 1024 x 1024, gradient checkpointing on: traced."""
TRANSFORMER_BLOCKS_PEAK = 1160.0
"""The same with the activations of resnets kept."""
FULL_PEAK = 6600.0
"""The same without gradient checkpointing."""
SMALLEST_PEAK = 62.0
"""MiB that one weight's gradient takes however small the pictures are."""


def gpu_phases(settings: Settings, model: ModelFacts) -> tuple[Phase, ...]:
    """What each GPU holds at the peak of each phase.

    Args:
        settings: of the run.
        model: its sizes.
    """
    if not _has_trace(settings, model):
        return _by_formula("init", _start(settings, model)), _by_formula("step", _steps(settings, model))
    optimization = settings.training.optimization
    granularity = optimization.gradient_checkpointing_granularity if optimization.gradient_checkpointing else "none"
    facts = engine_facts(settings, trained(settings.training.adapter, model))
    played = _play(granularity, facts, optimization.train_batch_size, _largest_picture(settings) // 64)
    beside = {WORKSPACES: WORKSPACES_MIB * MIB, **_average_on_gpu(settings, model)}
    return _played("init", played.start, {}), _played("step", played.step, beside)


def average_bytes(settings: Settings, model: ModelFacts) -> float:
    """A moving average in fp32, of all ranks together: shared out as the masters are, before stage 1 rank 0's alone."""
    return 4 * trained(settings.training.adapter, model).parameters if settings.training.ema.use_ema else 0


def knows_activations(model: ModelFacts) -> bool:
    """Whether what a model's activations take is known."""
    return model.is_sdxl


def _has_trace(settings: Settings, model: ModelFacts) -> bool:
    return model.is_sdxl and settings.deepspeed.precision != "no" and not settings.training.adapter.is_lora


@lru_cache(maxsize=64)
def _play(granularity: str, facts: EngineFacts, pictures: int, latents: int) -> Played:
    return play(shipped(granularity), facts, pictures=pictures, latents=latents)


def _played(name: str, peak: Peak, beside: Mapping[str, float]) -> Phase:
    more = round(sum(beside.values()) / MIB)
    unused = peak.reserved - peak.allocated
    return Phase(
        name,
        in_mib({CONTEXT: CONTEXT_MIB * MIB, **peak.parts, **beside, UNUSED: unused}),
        allocated_mib=round(peak.allocated / MIB) + more,
        reserved_mib=round(peak.reserved / MIB) + more,
        least_mib=CONTEXT_MIB + round(peak.needed / MIB) + more,
    )


def _by_formula(name: str, parts: tuple[Part, ...]) -> Phase:
    """Formulas say what is allocated; what torch holds beside it nobody knows."""
    whole = sum(part.mib for part in parts)
    return Phase(name, parts, allocated_mib=whole - CONTEXT_MIB, reserved_mib=whole - CONTEXT_MIB, least_mib=whole)


def _largest_picture(settings: Settings) -> int:
    """Pixels of the largest bucket."""
    return max(bucketing.largest for bucketing in bucketings(settings.training))


def _average_on_gpu(settings: Settings, model: ModelFacts) -> dict[str, float]:
    if settings.training.ema.ema_device != "accelerator":
        return {}
    return {
        AVERAGE: average_bytes(settings, model) / (settings.launch.num_processes if settings.deepspeed.stage else 1)
    }


def _steps(settings: Settings, model: ModelFacts) -> tuple[Part, ...]:
    ds, ranks, of = settings.deepspeed, settings.launch.num_processes, trained(settings.training.adapter, model)
    c, parameters = 4 if ds.precision == "no" else 2, of.parameters
    parts = {CONTEXT: CONTEXT_MIB * MIB, "activations": _activations(settings, model) * MIB}
    if ds.stage == 3 and ds.offload_param_device != "none":
        live = min(ds.stage3_max_live_parameters, of.held)
        parts["gathered parameters"] = c * (live + ds.stage3_prefetch_bucket_size)
    else:
        share = ranks if ds.stage == 3 else 1
        parts["weights"] = c * of.held / share
        if ds.stage == 3 and ranks > 1:
            parts["gathered parameters"] = c * min(ds.stage3_max_live_parameters, of.held)
    if ds.stage > 0:
        buckets = 2 if ds.overlap_comm and ds.stage < 3 else 1
        parts["reduce bucket"] = c * ds.reduce_bucket_size * buckets
    if ds.stage in (1, 2) and ds.offloads:
        parts["gradient on its way to the host"] = c * of.largest_tensor
    parts["gradients"] = _gradients(settings, parameters, c)
    if not ds.offloads:
        states = (master_bytes(settings) + 4 * moments(ds)) * parameters
        parts["optimizer states"] = states / ranks if ds.stage else states
        if ds.stage in (1, 2):
            parts["gradients in fp32 at the step"] = 4 * parameters / ranks
        elif not settings.launch.deepspeed and c == 2:
            parts["gradients in fp32 at the step"] = 4 * parameters
    return in_mib(parts | _average_on_gpu(settings, model))


def _gradients(settings: Settings, parameters: int, c: int) -> float:
    """Bytes of gradients that stay on the GPU until the step."""
    ds, ranks = settings.deepspeed, settings.launch.num_processes
    if ds.stage < 2:
        return c * parameters
    return 0 if ds.offloads else c * parameters / ranks


def _start(settings: Settings, model: ModelFacts) -> tuple[Part, ...]:
    """Stages 1 and 2 flatten the weights on the card: three copies in all."""
    c, of = 4 if settings.deepspeed.precision == "no" else 2, trained(settings.training.adapter, model)
    copies = 3 if settings.deepspeed.stage in (1, 2) else 1
    return in_mib({CONTEXT: CONTEXT_MIB * MIB, "weights while flattening": c * (of.frozen + copies * of.parameters)})


def _activations(settings: Settings, model: ModelFacts) -> float:
    """MiB at the peak: linear in batch and pixels to 1 % from 512 px up, a few tens of MiB low at 128 px.

    Traced in half precision; fp32 takes twice that.
    """
    if not knows_activations(model):
        return 0
    optimization = settings.training.optimization
    one = FULL_PEAK
    if optimization.gradient_checkpointing:
        every = optimization.gradient_checkpointing_granularity == "all"
        one = CHECKPOINTED_PEAK if every else TRANSFORMER_BLOCKS_PEAK
    wide = 2 if settings.deepspeed.precision == "no" else 1
    return wide * max(SMALLEST_PEAK, one * optimization.train_batch_size * _largest_picture(settings) / 1024**2)
