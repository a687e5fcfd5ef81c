"""Where weights, gradients and optimizer states may lie, and what else of a setting decides about memory and speed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from launcher.config.deepspeed import BLOCKS, SPARING_LINEAR, WHOLE_BLOCKS, DeepSpeedSettings
from launcher.config.deepspeed_json import split
from launcher.config.nested import leaves, put
from launcher.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Placement:
    """One way to share out and offload."""

    name: str
    """For people."""
    stage: int
    deepspeed: bool = True
    optimizer: str = "none"
    parameters: str = "none"
    when: Callable[[Settings], bool] = lambda _: True
    """With which settings it may be worth anything."""

    @property
    def on_nvme(self) -> bool:
        """Whether anything is kept on a drive."""
        return self.optimizer == "nvme"


def _several(settings: Settings) -> bool:
    """On one GPU there is nothing to share; where plain PyTorch has no such optimizer, DeepSpeed may have it."""
    return settings.launch.num_processes > 1 or settings.deepspeed.optimizer_type in ("Lion", "Muon")


def _accumulates(settings: Settings) -> bool:
    """Stage 1 brings gradients to the host after the last micro-batch, stage 2 while each goes backward
    (``stage_1_and_2.py``): what stage 1 keeps on the GPU for that is of use with several only."""
    return settings.deepspeed.gradient_accumulation_steps > 1


PLAIN = Placement("plain PyTorch, everything on the GPU", 0, deepspeed=False)
SHARED_1 = Placement("ZeRO stage 1, nothing offloaded", 1, when=_several)
SHARED_2 = Placement("ZeRO stage 2, nothing offloaded", 2, when=_several)
SHARED_3 = Placement("ZeRO stage 3, nothing offloaded", 3, when=_several)
CPU_1 = Placement("ZeRO stage 1, optimizer on the CPU", 1, optimizer="cpu", when=_accumulates)
CPU_2 = Placement("ZeRO stage 2, optimizer on the CPU", 2, optimizer="cpu")
CPU_3 = Placement("ZeRO stage 3, optimizer and weights on the CPU", 3, optimizer="cpu", parameters="cpu")
OPTIMIZER_3 = Placement("ZeRO stage 3, optimizer on the CPU", 3, optimizer="cpu")
NVME = Placement("ZeRO stage 3, optimizer on NVMe, weights on the CPU", 3, optimizer="nvme", parameters="cpu")
ALL_NVME = Placement("ZeRO stage 3, optimizer and weights on NVMe", 3, optimizer="nvme", parameters="nvme")

PLACEMENTS = (PLAIN, SHARED_1, SHARED_2, SHARED_3, CPU_1, CPU_2, CPU_3, OPTIMIZER_3, NVME, ALL_NVME)
"""The fastest first, and of equally fast ones the lower stage. ZeRO stage 0 is left out: it holds what plain PyTorch
holds, and computes the same."""

CHECKPOINTING = ("all", "transformer_blocks", "none")
"""What is recomputed, the most frugal first."""

_DEFAULTS = DeepSpeedSettings()
TUNED: Mapping[str, Any] = {
    key: getattr(_DEFAULTS, key)
    for key in (
        "reduce_bucket_size",
        "overlap_comm",
        "stage3_prefetch_bucket_size",
        "stage3_max_live_parameters",
        "stage3_max_reuse_distance",
    )
}
"""The defaults of what moves weights and gradients, which are fitted to SDXL: few weights on the GPU at once."""
ROOMY: Mapping[str, Any] = {
    "stage3_max_live_parameters": 1_000_000_000,
    "stage3_max_reuse_distance": 1_000_000_000,
}
"""Stage 3 with more of them: some 1.7 GiB, and fewer weights fetched twice."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A placement with what else decides about memory and speed."""

    placement: Placement
    batch: int
    checkpointing: str = CHECKPOINTING[0]
    roomy: bool = False
    """Of stage 3: whether many weights may be on the GPU at once."""

    def settings(self, base: Settings, nvme: str) -> Settings:
        """Settings of a run like ``base``, laid out so.

        Args:
            base: says everything else.
            nvme: folder for what is offloaded there.
        """
        placement, optimization = self.placement, base.training.optimization
        deepspeed = replace(
            base.deepspeed,
            stage=placement.stage,
            offload_optimizer_device=placement.optimizer,
            offload_optimizer_nvme_path=nvme if placement.optimizer == "nvme" else "",
            offload_optimizer_pin_memory=True,  # takes no more host RAM: sizes are exact (train/offload/pinning.py)
            offload_param_device=placement.parameters,
            offload_param_pin_memory=base.training.adapter.is_lora,  # what is trained lies in pinned memory in any case
            offload_param_nvme_path=nvme if placement.parameters == "nvme" else "",
            extra=_extra(base, placement),
            **{**TUNED, **(ROOMY if self.roomy else {})},
        )
        training = replace(base.training, optimization=replace(optimization, train_batch_size=self.batch))
        laid_out = Settings(replace(base.launch, deepspeed=placement.deepspeed), deepspeed, training)
        return recomputing(laid_out, self.checkpointing)


def recomputing(base: Settings, checkpointing: str) -> Settings:
    """The same settings with other gradient checkpointing, and linear layers that suit it.

    Args:
        base: says everything else.
        checkpointing: one of :data:`CHECKPOINTING`.
    """
    on = checkpointing != "none"
    optimization = replace(base.training.optimization, gradient_checkpointing=on)
    if on:
        optimization = replace(optimization, gradient_checkpointing_granularity=checkpointing)
    extra = _without(base.deepspeed.extra, SPARING_LINEAR)
    if on and base.deepspeed.fetched_whole:
        put(extra, SPARING_LINEAR, False)
    training = replace(base.training, optimization=optimization)
    return replace(base, deepspeed=replace(base.deepspeed, extra=extra), training=training)


def _extra(base: Settings, placement: Placement) -> dict[str, object]:
    """What DeepSpeed's JSON says beyond the settings, with blocks fetched whole at stage 3.

    From NVMe weights come one by one, as DeepSpeed can fetch nothing ahead from there; a LoRA has a rule against it.
    """
    extra = _without(split(base.deepspeed.extra)[1], WHOLE_BLOCKS)
    if placement.stage == 3 and placement.parameters != "nvme" and not base.training.adapter.is_lora:
        put(extra, WHOLE_BLOCKS, list(BLOCKS))
    return extra


def _without(content: Mapping[str, Any], left_out: tuple[str, ...]) -> dict[str, Any]:
    """A copy of a nested object but for one of its values."""
    copied: dict[str, Any] = {}
    for keys, value in leaves(content):
        if keys != left_out:
            put(copied, keys, value)
    return copied
