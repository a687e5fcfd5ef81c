"""How long an optimizer step takes, from what this machine moves and computes in a second.

A phase waits for the slower of what is under way at once: the GPU's computing, Python and torch starting its kernels,
at stage 3, and where ``launcher.train.offload`` trains, the transfers too. What DeepSpeed does tensor by tensor,
waiting for each, comes on top. Overheads are in launches of a small op, which the probe times, so a slower core makes
them longer; fitted to what a stock loop around DeepSpeed and this launcher's engine took on H200s
(``tests/launcher/estimate/test_step_time.py``, ``test_predictions.py``), those of several GPUs to runs on two.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.config.settings import Settings
from launcher.data.sources import largest_picture
from launcher.estimate.adapter import Trained, trained
from launcher.estimate.engine_facts import EngineFacts, engine_facts
from launcher.estimate.flops import RESNET, TRANSFORMER, Flops, flops
from launcher.estimate.model import ModelFacts
from launcher.estimate.passes import passes_of_sdxl
from launcher.estimate.traffic import FP32, Traffic, Transfer, checkpointed, clips
from launcher.machine.bandwidths import Bandwidths, BlockSpeed, GpuSpeed

Spent = defaultdict[str, float]
"""Seconds by what they are spent with."""
GB = 1e9
FP64 = 8
COMPUTES, LAUNCHES, TRANSFERS = "the GPU computes", "the GPU waits for launches", "transfers"
UPDATE, ENGINE, DRIVE = "optimizer", "DeepSpeed's own work", "NVMe"
REST_FORWARD, REST_BACKWARD = 1.05, 1.02
"""Launches of the whole U-Net, of those of its blocks: counted by dispatch."""
ADAPTED_FORWARD, ADAPTED_BACKWARD = 40, 80
"""For each layer with a LoRA: peft's own forward, two products, scale and sum; and twice that."""
OFFLOADED = 29
"""For each tensor at stages 1 and 2 whose gradient goes to the host: norm, check, conversion, and a wait."""
HANDED_OVER = 9
"""The same where gradients come to the host without a wait, at stage 3 too."""
REDUCED = 11
"""For each tensor that is reduced and stays."""
SHARED, SHARED_TOGETHER = 38, 13
"""For each tensor that several GPUs reduce at stages 1 and 2; where those of a bucket are copied into it together."""
MODULE, FETCHED, PARTITIONED = 57, 36, 36
"""At stage 3, for each module that is entered, each weight fetched from the host and each gradient handed over. As
fitted to DeepSpeed's own fetching; ``launcher.train.offload`` takes less of the host for it, and steps as long."""
UPDATED_ON_HOST, UPDATED_ON_GPU = 13, 25
"""For each tensor at DeepSpeed's update: norms, and weights that are views of the new ones."""
IN_ONE_PASS, IN_ONE_PASS_AT_STAGE_3 = 2, 11
"""For each tensor at the update in one pass."""
UPDATED_PLAINLY = 3
"""The same without ZeRO."""


@dataclass(frozen=True, slots=True)
class Share:
    """What a part of a step's time is spent with."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of an optimizer step, all its micro-batches together."""

    forward: float
    backward: float
    optimizer: float
    parts: tuple[Share, ...]
    """The same time by what it is spent with."""
    gpu: str
    """The name of the GPU that this is the time of: the one that was measured."""

    @property
    def total(self) -> float:
        """Of the step."""
        return self.forward + self.backward + self.optimizer

    def to_json(self) -> dict[str, Any]:
        """For plan.json and ``estimate --json``."""
        rounded = {name: round(getattr(self, name), 3) for name in ("forward", "backward", "optimizer")}
        return {"gpu": self.gpu, **rounded, "parts": {part.name: round(part.seconds, 3) for part in self.parts}}


def why_unpredicted(settings: Settings, model: ModelFacts, speed: Bandwidths | None) -> str:
    """Why there is no step time; empty where there is.

    Args:
        settings: of the run.
        model: its sizes.
        speed: of the machine, with a drive if something is on NVMe; None: it is still to be measured.
    """
    ds, launch = settings.deepspeed, settings.launch
    reasons = {
        "without a GPU": launch.use_cpu or (speed is not None and speed.gpu is None),
        "of a model that is not SDXL": not model.is_sdxl,
        "in fp32": ds.precision == "no",
        "of a compiled U-Net": launch.dynamo,
        "of Muon": ds.optimizer_type == "Muon",
        "of a drive that was not measured: simpletuner-tui measure --nvme FOLDER measures it": (
            ds.nvme_parts and speed is not None and speed.drive is None
        ),
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def step_time(settings: Settings, model: ModelFacts, moved: Traffic, speed: Bandwidths) -> StepTime | None:
    """How long a step of these settings takes; None where :func:`why_unpredicted` says why.

    Args:
        settings: of the run.
        model: its sizes.
        moved: by a step of it.
        speed: of the machine.
    """
    if speed.gpu is None or why_unpredicted(settings, model, speed):
        return None
    return _Step(settings, model, moved, speed, speed.gpu).time()


class _Step:
    """One step, phase by phase."""

    def __init__(self, settings: Settings, model: ModelFacts, moved: Traffic, speed: Bandwidths, gpu: GpuSpeed) -> None:
        self._settings, self._model, self._moved, self._speed, self._gpu = settings, model, moved, speed, gpu
        self._of: Trained = trained(settings.training.adapter, model)
        self._facts: EngineFacts = engine_facts(settings, self._of)
        self._granularity = checkpointed(settings)
        latents = largest_picture(settings.training) // model.pixels_per_latent
        self._flops = flops(model.layers, latents, frozen=bool(self._of.frozen))

    def time(self) -> StepTime:
        phases = self._forward(), self._backward(), self._optimizer()
        parts = _spent({})
        for spent in phases:
            for name, seconds in spent.items():
                parts[name] += seconds
        forward, backward, optimizer = (sum(spent.values()) for spent in phases)
        shares = tuple(Share(name, seconds) for name, seconds in parts.items() if seconds)
        return StepTime(forward, backward, optimizer, shares, self._speed.hardware.gpu)

    def _forward(self) -> Spent:
        if self._facts.stage == 3:
            return self._fetching(self._moved.forward, backward=False)
        return _slowest({COMPUTES: self._computing(backward=False)}, {LAUNCHES: self._launching(backward=False)})

    def _backward(self) -> Spent:
        facts, tensors = self._facts, self._of.tensors
        if facts.stage == 3:
            return self._fetching(self._moved.backward, backward=True)
        launching = self._launching(backward=True)
        if facts.stage == 2 and not facts.offload_optimizer:
            launching += facts.accumulation * self._launches(REDUCED * tensors)
        if facts.one_pass:
            return self._handing_over(launching)
        spent = _slowest({COMPUTES: self._computing(backward=True)}, {LAUNCHES: launching})
        if facts.offload_optimizer:
            times = facts.accumulation if facts.stage == 2 else 1  # stage 1 hands over what was accumulated
            spent[ENGINE] += times * self._launches(OFFLOADED * tensors / facts.ranks)
            spent[TRANSFERS] += self._over_pcie(self._moved.backward)
        if facts.stage and facts.ranks > 1:
            spent[ENGINE] += facts.accumulation * self._launches(SHARED * tensors)
        return spent

    def _handing_over(self, launching: float) -> Spent:
        """Stages 1 and 2 in one pass: copies follow the kernels, on a stream of their own where they overlap."""
        facts, times = self._facts, self._facts.accumulation if self._facts.stage == 2 else 1
        shared = (1 if facts.local_sums else times) * (facts.ranks > 1)
        own = self._launches((HANDED_OVER * times + SHARED_TOGETHER * shared) * self._of.tensors)
        moved = self._moved.backward
        at_host = self._settings.launch.processes_here * (moved.up + moved.down) / self._speed.host.copy_gb_s / GB
        computing, transferring = self._computing(backward=True), max(self._over_pcie(moved), at_host)
        if not self._settings.deepspeed.offload_optimizer_pin_memory:  # the thread waits for pageable memory
            return _spent({LAUNCHES: launching, ENGINE: own, TRANSFERS: transferring})
        thread = {LAUNCHES: launching, ENGINE: own}
        if facts.overlap:
            return _slowest({COMPUTES: computing}, {TRANSFERS: transferring}, thread)
        return _slowest({COMPUTES: computing, TRANSFERS: transferring}, thread)

    def _fetching(self, moved: Transfer, *, backward: bool) -> Spent:
        """Stage 3: transfers have streams of their own, hooks and launches one thread."""
        both = passes_of_sdxl(self._granularity, self._facts)
        taken = both[backward]
        partitioned = HANDED_OVER if self._facts.one_pass else PARTITIONED
        launches = MODULE * taken.modules + FETCHED * taken.tensors + backward * partitioned * self._of.tensors
        launching, own = self._launching(backward=backward), self._facts.accumulation * self._launches(launches)
        computing, transferring, waiting = self._computing(backward=backward), self._over_pcie(moved), 0.0
        if backward and self._facts.offload_optimizer and not self._settings.deepspeed.offload_optimizer_pin_memory:
            # Gradients come to pageable memory, which the thread waits for; weights come ahead as ever.
            weights = self._moved.forward.up * taken.elements / both[0].elements
            gradients = Transfer(up=moved.up - weights, down=moved.down)
            waiting, transferring = self._pageable(gradients), self._over_pcie(Transfer(up=weights))
        thread = {LAUNCHES: launching, ENGINE: own, TRANSFERS: waiting}
        spent = _slowest({COMPUTES: computing}, {TRANSFERS: transferring}, thread)
        if self._moved.nvme_fetched and self._speed.drive:
            share = taken.elements / sum(each.elements for each in both)
            spent[DRIVE] += share * self._moved.nvme_fetched / self._speed.drive.read_gb_s / GB
        return spent

    def _optimizer(self) -> Spent:
        facts, moved, host = self._facts, self._moved, self._speed.host
        if not facts.offload_optimizer:
            return self._update_on_gpu()
        if facts.one_pass and host.one_pass_elements_s:
            return self._update_in_one_pass(host.one_pass_elements_s)
        each = (3 + 2 * facts.moments) / 7 / host.adam_elements_s  # measured with two moments
        each += 1 / host.scale_elements_s if clips(self._settings) else 0
        if facts.stage == 3 and not facts.offload_param:  # converted on its way
            transferring = moved.optimizer.up / self._gpu.up_converted_gb_s / GB
        else:
            each += 1 / host.convert_elements_s
            transferring = self._over_pcie(moved.optimizer)
        spent = _spent({UPDATE: each * self._of.parameters / self._settings.launch.machine_count})  # ranks share a CPU
        spent[TRANSFERS] = transferring
        spent[ENGINE] = self._launches(UPDATED_ON_HOST * self._of.tensors / facts.ranks)
        if moved.nvme_written and self._speed.drive:
            states = (moved.nvme_read - moved.nvme_fetched) / self._speed.drive.read_gb_s
            spent[DRIVE] = (states + moved.nvme_written / self._speed.drive.write_gb_s) / GB
        return spent

    def _update_in_one_pass(self, elements_s: float) -> Spent:
        """While a group goes up from pinned memory the next is updated; stage 3 converts weights on their way."""
        facts, up = self._facts, self._moved.optimizer
        updating = self._of.parameters / self._settings.launch.machine_count / elements_s
        if facts.stage == 3:
            spent = _spent({UPDATE: updating, TRANSFERS: up.up / self._gpu.up_converted_gb_s / GB})
        elif self._settings.deepspeed.offload_optimizer_pin_memory:
            spent = _slowest({UPDATE: updating}, {TRANSFERS: self._over_pcie(up)})
        else:
            spent = _spent({UPDATE: updating, TRANSFERS: self._over_pcie(up)})
        each = IN_ONE_PASS_AT_STAGE_3 if facts.stage == 3 else IN_ONE_PASS
        spent[ENGINE] = self._launches(each * self._of.tensors / facts.ranks)
        return spent

    def _update_on_gpu(self) -> Spent:
        facts, width = self._facts, self._facts.weight_bytes
        share = self._of.parameters / facts.ranks if facts.stage else self._of.parameters
        gradients = width + FP32 + 2 * FP32 + FP32 + width  # to fp32, clipped; masters to weights
        norms = width + 2 * FP64 + 2 * width if facts.stage else FP32  # in fp64, of what is flattened besides
        spent = _spent(
            {UPDATE: share * ((gradients + norms) / self._gpu.copy_gb_s / GB + 1 / self._gpu.adam_elements_s)}
        )
        spent[LAUNCHES] = self._launches((UPDATED_ON_GPU if facts.stage else UPDATED_PLAINLY) * self._of.tensors)
        spent[TRANSFERS] = self._over_pcie(self._moved.optimizer)
        return spent

    def _computing(self, *, backward: bool) -> float:
        """Seconds of the GPU, all micro-batches together."""
        pictures = self._settings.training.optimization.train_batch_size
        seconds = 0.0
        for kind, work in self._flops.items():
            block = self._gpu.resnet if kind == RESNET else self._gpu.transformer
            forward = _on_line(block, work, pictures, backward=False)
            if not backward:
                seconds += forward
                continue
            seconds += _on_line(block, work, pictures, backward=True)
            if self._is_checkpointed(kind):
                seconds += forward * work.recomputed / work.forward
        return seconds * self._facts.accumulation

    def _launching(self, *, backward: bool) -> float:
        """Seconds that Python and torch take to start everything, all micro-batches together."""
        seconds = 0.0
        for kind, block in ((TRANSFORMER, self._gpu.transformer), (RESNET, self._gpu.resnet)):
            seconds += self._flops[kind].blocks * _launch(block, backward, self._is_checkpointed(kind))
        seconds *= REST_BACKWARD if backward else REST_FORWARD
        adapted = self._of.tensors / 2 if self._of.frozen else 0
        seconds += self._launches(adapted * (ADAPTED_BACKWARD if backward else ADAPTED_FORWARD))
        return seconds * self._facts.accumulation

    def _is_checkpointed(self, kind: str) -> bool:
        return self._granularity == "all" or (self._granularity == "transformer_blocks" and kind == TRANSFORMER)

    def _launches(self, number: float) -> float:
        return number * self._gpu.op_seconds

    def _over_pcie(self, moved: Transfer) -> float:
        gpu = self._gpu
        # Stage 3 pins what it moves whatever the settings say of parameters.
        pinned = self._facts.offload_param or self._settings.deepspeed.offload_optimizer_pin_memory
        return moved.up / gpu.up_gb_s / GB + moved.down / gpu.down_gb_s / GB if pinned else self._pageable(moved)

    def _pageable(self, moved: Transfer) -> float:
        return moved.up / self._gpu.up_pageable_gb_s / GB + moved.down / self._gpu.down_pageable_gb_s / GB


def _launch(block: BlockSpeed, backward: bool, checkpointed: bool) -> float:
    if checkpointed:
        return block.launch_checkpointed_backward_seconds if backward else block.launch_checkpointed_forward_seconds
    return block.launch_backward_seconds if backward else block.launch_forward_seconds


def _on_line(block: BlockSpeed, work: Flops, pictures: int, *, backward: bool) -> float:
    """Seconds of all blocks of a kind, on the line through the two sizes that were measured."""
    small, large = block.small, block.large
    if backward:
        flops, (less, more) = work.backward, (small.backward_flops, large.backward_flops)
        low, high = small.backward_seconds, large.backward_seconds
    else:
        flops, (less, more) = work.forward, (small.flops, large.flops)
        low, high = small.forward_seconds, large.forward_seconds
    slope = (high - low) / (more - less)
    return work.blocks * max(0.0, low - slope * less) + slope * flops * pictures


def _spent(seconds: Mapping[str, float]) -> Spent:
    return defaultdict(float, seconds)


def _slowest(*under_way: Mapping[str, float]) -> Spent:
    """What others wait for, of what is under way at once."""
    return _spent(max(under_way, key=lambda each: sum(each.values())))
