"""What a GPU holds at a step that was not traced yet, or cannot be: formulas instead of a playback.

As DeepSpeed allocates per stage and offload: measured by counting tensors after a step on one rank, and read in the
code for more. Of a LoRA, gradients, masters and states are those of its matrices; the frozen U-Net counts wherever
weights are, at stage 3 in partitions.
"""

from launcher.config.engine import COPIED_AT_ONCE
from launcher.config.settings import Settings
from launcher.data.sources import largest_picture
from launcher.estimate.adapter import trained
from launcher.estimate.engine_facts import EngineFacts, engine_facts
from launcher.estimate.gpu import ACTIVATIONS, STATES, WEIGHTS
from launcher.estimate.model import ModelFacts
from launcher.estimate.partitioned_weights import COPIES
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
    of = trained(settings.training.adapter, model)
    facts, parameters = engine_facts(settings, of), of.parameters
    c, stage, ranks = facts.weight_bytes, facts.stage, facts.ranks
    parts = {ACTIVATIONS: _activations(settings, model) * MIB}
    if stage == 3 and facts.offload_param:
        parts["gathered parameters"] = c * (min(facts.max_live, of.held) + facts.prefetch_bucket)
    else:
        parts[WEIGHTS] = c * of.held / (ranks if stage == 3 else 1)
        if stage == 3 and ranks > 1:
            parts["gathered parameters"] = c * min(facts.max_live, of.held)
    if stage:
        parts["reduce bucket"] = c * facts.reduce_bucket * (2 if facts.overlap and stage < 3 else 1)
    if facts.one_pass and facts.accumulation > 1:
        parts["gradients from the host"] = c * min(COPIED_AT_ONCE, parameters)
    elif stage in (1, 2) and facts.offload_optimizer and not facts.one_pass:
        parts["gradient on its way to the host"] = c * of.largest_tensor
    parts["gradients"] = _gradients(facts, parameters)
    if not facts.offload_optimizer:
        states = (facts.master_bytes + 4 * facts.moments) * parameters
        parts[STATES] = states / ranks if stage else states
        if stage in (1, 2):
            parts["gradients in fp32 at the step"] = 4 * _largest_group(facts, parameters) / ranks
        elif not facts.deepspeed and c == 2:
            parts["gradients in fp32 at the step"] = 4 * parameters
    return parts


def _gradients(facts: EngineFacts, parameters: int) -> float:
    """Bytes of gradients that stay on the GPU until the step."""
    if facts.stage < 2:
        return facts.weight_bytes * parameters
    return 0 if facts.offload_optimizer else facts.weight_bytes * parameters / facts.ranks


def _largest_group(facts: EngineFacts, parameters: int) -> int:
    """Elements, at the most."""
    return min(facts.group or parameters, parameters)


def start_bytes(settings: Settings, model: ModelFacts) -> dict[str, float]:
    """Bytes by part while the engine is built.

    Stages 1 and 2 flatten the weights on the card, with two copies of a group beside them; stage 3 takes them apart.
    """
    of = trained(settings.training.adapter, model)
    facts = engine_facts(settings, of)
    elements: float = of.held
    if facts.stage == 3 and not facts.weights_begin_whole:
        elements = 0 if facts.offload_param else of.held / facts.ranks
        elements += (COPIES + 1 / facts.ranks) * of.largest_tensor
    elif facts.stage in (1, 2):
        elements += 2 * _largest_group(facts, of.parameters)
    return {"weights while flattening": facts.weight_bytes * elements}


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
