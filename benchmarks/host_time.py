"""``python -m benchmarks.host_time``: what a training step takes of the host, in this launcher's ways and in others'.

SDXL's U-Net with all of its modules, made so narrow that computing is next to nothing, in fp32 on one thread of the CPU;
weights, optimizer and what stays on the device as the launcher has them for the true one. A step of one way and a step of
the other in turn; medians. Nothing is copied here: what a GPU adds to each copy and each wait is not in it.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from deepspeed.runtime.zero import partitioned_param_coordinator as deepspeeds
from deepspeed.runtime.zero.partition_parameters import Init
from diffusers import UNet2DConditionModel

from benchmarks.answers import STREAMED
from benchmarks.random_sdxl import UNET
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.nested import with_overrides
from launcher.train.activations import checkpoint_activations
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.distributed import World
from launcher.train.offload import optimizers

NARROW = {
    "block_out_channels": (32, 64, 64),
    "attention_head_dim": (1, 2, 2),
    "cross_attention_dim": 32,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 80,
}
STAYS = 1_000
"""Elements of biases and norms, which stay on the device in the true one too; matrices have more."""
LEARNING = 3
"""Steps in which the order of modules is learnt."""
PARTS = ("fetch_sub_module", "release_sub_module", "release_and_reset_all")
STAGE_2 = {"stage": 2, "overlap_comm": True}
STAGE_3 = {
    "stage": 3,
    "offload_param_device": "cpu",
    "stage3_prefetch_bucket_size": 100_000,
    "stage3_max_live_parameters": 300_000,
    "stage3_max_reuse_distance": 10_000,
    "stage3_param_persistence_threshold": STAYS,
}
Seconds = dict[str, float]


class Way:
    """One way to train; its steps tell what their parts took."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.fetching: float | None = None
        """Seconds of fetching and releasing weights since the step began."""

    def step(self) -> Seconds:
        """Forward and backward; an update, where an engine makes one, is left out of the clock."""
        self.fetching = None if self.fetching is None else 0.0
        began = time.perf_counter()
        predicted = self._engine(
            torch.randn(1, 4, 8, 8),
            torch.tensor([3]),
            encoder_hidden_states=torch.randn(1, 4, 32),
            added_cond_kwargs={"text_embeds": torch.randn(1, 32), "time_ids": torch.randn(1, 6)},
        ).sample
        forward = time.perf_counter()
        loss = predicted.square().mean()
        if isinstance(self._engine, DeepSpeedEngine):
            self._engine.backward(loss)
        else:
            loss.backward()
        backward = time.perf_counter()
        told = {"forward": forward - began, "backward": backward - forward, "both": backward - began}
        if self.fetching is not None:
            told["of them fetching and releasing"] = self.fetching
        if isinstance(self._engine, DeepSpeedEngine):
            self._engine.step()
        else:
            self._engine.zero_grad()
        return told

    def watch_fetching(self) -> None:
        coordinator = self._engine._optimizer.parameter_offload.get_param_coordinator()

        def timed(do: Callable[..., None]) -> Callable[..., None]:
            def doing(*given: object, **how: object) -> None:
                began = time.perf_counter()
                do(*given, **how)
                self.fetching += time.perf_counter() - began

            return doing

        self.fetching = 0.0
        for part in PARTS:
            setattr(coordinator, part, timed(getattr(coordinator, part)))


def new_unet(*, theirs: bool = False) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**(UNET | NARROW))
    if theirs:
        unet.enable_gradient_checkpointing()
    else:
        checkpoint_activations(unet, "all")
    return unet


def new_engine(settings: dict[str, Any], replaced: AbstractContextManager[Any]) -> DeepSpeedEngine:
    Init.param_id = 0
    chosen = DeepSpeedSettings(precision="no", offload_optimizer_device="cpu", reduce_bucket_size=200_000, **settings)
    config = to_deepspeed_json(chosen, train_batch_size=1, learning_rate=1e-4, warmup_steps=1, total_steps=1_000)
    if chosen.stage == 3:
        config = with_overrides(config, STREAMED["deepspeed.extra"])
    with replaced:
        return DeepSpeedEngine(new_unet(), config)


def recomputing() -> Iterator[Way]:
    yield Way(new_unet(theirs=True))
    yield Way(new_unet())


def reducing() -> Iterator[Way]:
    why_not = "it is left to DeepSpeed"  # as where the update does not compile
    yield Way(new_engine(STAGE_2, patch.object(optimizers, "load", lambda: why_not)))
    yield Way(new_engine(STAGE_2, nullcontext()))


def fetching() -> Iterator[Way]:
    theirs = patch.object(optimizers, "_coordinator", lambda zero: deepspeeds.PartitionedParameterCoordinator)
    for how in (theirs, nullcontext()):
        way = Way(new_engine(STAGE_3, how))
        way.watch_fetching()
        yield way


COMPARED = {
    "gradient checkpointing, torch's and ours": recomputing,
    "stage 2, DeepSpeed's optimizer and ours": reducing,
    "stage 3, fetching by DeepSpeed's coordinator and ours": fetching,
}


def main() -> None:
    made = argparse.ArgumentParser(prog="python -m benchmarks.host_time", description=__doc__)
    made.add_argument("--steps", type=int, default=15)
    steps = made.parse_args().steps
    torch.set_num_threads(1)
    world = World.join()
    for title, make in COMPARED.items():
        ways = list(make())
        for way in ways:
            for _ in range(LEARNING):
                way.step()
        rounds = [[way.step() for way in ways] for _ in range(steps)]
        print(title)
        for part in rounds[0][0]:
            theirs, ours = (median(each[place][part] for each in rounds) for place in (0, 1))
            print(f"  {part}: {theirs:.3f} and {ours:.3f} s, ratio {ours / theirs:.2f}")
    world.close()


if __name__ == "__main__":
    main()
