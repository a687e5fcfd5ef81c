"""What a GPU holds at a step that was not traced yet, or cannot be: formulas instead of a playback.

As DeepSpeed allocates per stage and offload: measured by counting tensors after a step on one rank, and read in the
code for more. Of a LoRA, gradients, masters and states are those of its matrices; the frozen U-Net counts wherever
weights are, at stage 3 in partitions.
"""

from launcher.config.settings import Settings
from launcher.data.sources import largest_picture
from launcher.estimate.adapter import trained
from launcher.estimate.engine_facts import master_bytes, moments
from launcher.estimate.gpu import ACTIVATIONS, STATES, WEIGHTS
from launcher.estimate.model import ModelFacts
from launcher.estimate.parts import MIB

CHECKPOINTED_PEAK = 691.0
"""MiB of activations at the peak for one picture of 1024 x 1024, gradient checkpointing on: traced."""
TRANSFORMER_BLOCKS_PEAK = 1160.0
"""The same with the activations of resnets kept."""
FULL_PEAK = 6600.0
"""The same without gradient checkpointing."""
SMALLEST_PEAK = 62.0
"""MiB that one weight's gradient takes however small the pictures are."""


def step_bytes(settings: Settings, model: ModelFacts) -> dict[str, float]:
    """Bytes by part while it trains."""
    ds, ranks, of = settings.deepspeed, settings.launch.num_processes, trained(settings.training.adapter, model)
    c, parameters = 4 if ds.precision == "no" else 2, of.parameters
    parts = {ACTIVATIONS: _activations(settings, model) * MIB}
    if ds.stage == 3 and ds.offload_param_device != "none":
        live = min(ds.stage3_max_live_parameters, of.held)
        parts["gathered parameters"] = c * (live + ds.stage3_prefetch_bucket_size)
    else:
        share = ranks if ds.stage == 3 else 1
        parts[WEIGHTS] = c * of.held / share
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
        parts[STATES] = states / ranks if ds.stage else states
        if ds.stage in (1, 2):
            parts["gradients in fp32 at the step"] = 4 * parameters / ranks
        elif not settings.launch.deepspeed and c == 2:
            parts["gradients in fp32 at the step"] = 4 * parameters
    return parts


def _gradients(settings: Settings, parameters: int, c: int) -> float:
    """Bytes of gradients that stay on the GPU until the step."""
    ds, ranks = settings.deepspeed, settings.launch.num_processes
    if ds.stage < 2:
        return c * parameters
    return 0 if ds.offloads else c * parameters / ranks


def start_bytes(settings: Settings, model: ModelFacts) -> dict[str, float]:
    """Bytes by part while the engine is built: stages 1 and 2 flatten the weights on the card, three copies in all."""
    c, of = 4 if settings.deepspeed.precision == "no" else 2, trained(settings.training.adapter, model)
    copies = 3 if settings.deepspeed.stage in (1, 2) else 1
    return {"weights while flattening": c * (of.frozen + copies * of.parameters)}


def _activations(settings: Settings, model: ModelFacts) -> float:
    """MiB at the peak: linear in batch and pixels to 1 % from 512 px up, a few tens of MiB low at 128 px.

    Traced in half precision; fp32 takes twice that.
    """
    if not model.is_sdxl:
        return 0  # not known
    optimization = settings.training.optimization
    one = FULL_PEAK
    if optimization.gradient_checkpointing:
        every = optimization.gradient_checkpointing_granularity == "all"
        one = CHECKPOINTED_PEAK if every else TRANSFORMER_BLOCKS_PEAK
    wide = 2 if settings.deepspeed.precision == "no" else 1
    return wide * max(SMALLEST_PEAK, one * optimization.train_batch_size * largest_picture(settings.training) / 1024**2)
