"""A small module under ZeRO with an Adam on the CPU: with the launcher's optimizers, or with DeepSpeed's own."""

import contextlib
from unittest.mock import patch

import deepspeed.comm as dist
import torch
from deepspeed.runtime.zero.partition_parameters import Init
from deepspeed.utils import safe_get_full_grad

from harness.small_engines import DTYPES, masters
from launcher.config import engine as engine_config
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.nested import with_overrides
from launcher.train import deepspeed_engine
from launcher.train.deepspeed_engine import DeepSpeedEngine

NARROW, WIDE = 32, 96
"""Half of each parameter is whole vectors of every CPU: DeepSpeed's own Adam rounds what is left over otherwise."""
SMALL = {
    "gradient_clipping": 0.0,
    "reduce_bucket_size": 5_000,  # a wide layer's weights are greater, the others fill it together
    "allgather_bucket_size": 5_000,
    "sub_group_size": 12_000,
    "stage3_prefetch_bucket_size": 1_000,
    "stage3_max_reuse_distance": 0,
    "stage3_param_persistence_threshold": 100,
}
GROUP_ELEMENTS = 12_000
"""Five groups."""


class _Spoiled(torch.autograd.Function):
    """Its input; the first element of the gradient becomes a value."""

    @staticmethod
    def forward(ctx, given, value):
        ctx.value = value
        return given.clone()

    @staticmethod
    def backward(ctx, gradient):
        gradient = gradient.clone()
        gradient[0, 0] = ctx.value
        return gradient, None


class Uneven(torch.nn.Module):
    """Called as the U-Net is."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(NARROW, WIDE).requires_grad_(not frozen)
        self.sometimes = torch.nn.Linear(WIDE, WIDE)
        self.always = torch.nn.ModuleList(torch.nn.Linear(WIDE, WIDE) for _ in range(2))
        self.last = torch.nn.Linear(WIDE, NARROW)
        self.uses_all = True
        self.spoils: float | None = None
        """What becomes of one element of the gradient of all that comes before the last layer."""

    def forward(self, sample, timestep):
        sample = torch.nn.functional.silu(self.first(sample * timestep))
        if self.uses_all:
            sample = sample + self.sometimes(sample)
        for layer in self.always:
            sample = sample + torch.nn.functional.silu(layer(sample))
        return self.last(sample if self.spoils is None else _Spoiled.apply(sample, self.spoils))


def new_engine(
    stage,
    *,
    ours=True,
    precision="bf16",
    exclude="none",
    overrides=None,
    frozen=False,
    elements=GROUP_ELEMENTS,
    **chosen,
):
    """An engine and its module; ``elements`` are those of a group at stages 1 and 2, None for one group of all."""
    settings = DeepSpeedSettings(
        **{"offload_optimizer_device": "cpu", **SMALL, **chosen}, stage=stage, precision=precision
    )
    config = to_deepspeed_json(settings, train_batch_size=2, learning_rate=1e-2, warmup_steps=3, total_steps=9)
    config = with_overrides(config, overrides or {})
    Init.param_id = 0
    module = Uneven(frozen).to(DTYPES[precision])
    with contextlib.ExitStack() as patches:
        patches.enter_context(patch.object(engine_config, "GROUP_ELEMENTS", elements))
        if not ours:
            never = patch.object(deepspeed_engine, "replacing_deepspeeds", lambda config: contextlib.nullcontext())
            patches.enter_context(never)
        return DeepSpeedEngine(module, config, exclude), module


def take_steps(world, engine, module, steps, *, first=0, accumulation=1, unused=(), bad=()):
    """Batches follow from step, micro-batch and rank.

    Args:
        unused: pairs of step and micro-batch in which a layer has no part.
        bad: step, micro-batch, rank and what one gradient is there.

    Returns:
        What each told, how often the backward pass of each micro-batch summed up over the ranks, and the gradients of
        the last step as they were before its update.
    """
    dtype = next(module.parameters()).dtype
    told = {"losses": [], "reduced": [], "norms": [], "updated": [], "gradients": {}}
    unused = {tuple(pair) for pair in unused}
    for step in range(first, first + steps):
        for micro in range(accumulation):
            module.uses_all = (step, micro) not in unused
            spoilt = bad and tuple(bad[:3]) == (step, micro, world.rank)
            module.spoils = float(bad[3]) if spoilt else None
            seed = torch.Generator().manual_seed(1000 * step + 10 * micro + world.rank)
            sample = torch.randn(2, NARROW, generator=seed).to(dtype)
            loss = engine(sample, torch.ones((), dtype=dtype)).float().square().mean()
            with patch.object(dist, "all_reduce", wraps=dist.all_reduce) as reduced:
                engine.backward(loss)
            told["reduced"].append(reduced.call_count)
            told["losses"].append(loss.item())
            if (step, micro) == (first + steps - 1, accumulation - 1):
                trained = {name: each for name, each in module.named_parameters() if each.requires_grad}
                told["gradients"] = {name: safe_get_full_grad(each).clone() for name, each in trained.items()}
            engine.step()
        told["norms"].append(engine.gradient_norm)
        told["updated"].append(engine.updated)
    return told


def trained(world, *, ours=True, steps=4, accumulation=1, unused=(), bad=(), **settings):
    """What a case tells, its optimizer's class and how many groups that has, and the masters before and after."""
    engine, module = new_engine(ours=ours, gradient_accumulation_steps=accumulation, **settings)
    optimizer, before = engine._optimizer, masters(engine)
    told = take_steps(world, engine, module, steps, accumulation=accumulation, unused=unused, bad=bad)
    by_stage = "bit16_groups" if hasattr(optimizer, "bit16_groups") else "fp16_groups"
    return {
        **told,
        "class": type(optimizer).__name__,
        "groups": len(getattr(optimizer, by_stage)),
        "cut": by_stage == "bit16_groups" and is_cut(optimizer),
        "before": before,
        "after": masters(engine),
    }


def is_cut(optimizer) -> bool:
    """Of stages 1 and 2: whether a parameter lies on this rank in part."""
    sizes = {number: size for number, (_, _, _, size) in getattr(optimizer, "grad_position", {}).items()}
    return any(size < optimizer.param_dict[number].numel() for number, size in sizes.items())
