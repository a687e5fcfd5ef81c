"""``python -m benchmarks.fetching``: what a step of ZeRO stage 3 takes of the host, with our fetching and DeepSpeed's.

SDXL's U-Net with all of its modules, made so narrow that computing is next to nothing, in fp32 on one thread of the CPU;
weights, optimizer and what stays on the device as the launcher has them for the true one. One engine with each, a step
of one and a step of the other in turn. Nothing is copied here: what a GPU adds to each fetch is not in it.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
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
from launcher.train.offload import fetching, optimizers

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


def new_engine(*, ours: bool) -> DeepSpeedEngine:
    torch.manual_seed(0)
    Init.param_id = 0
    unet = UNet2DConditionModel(**(UNET | NARROW))
    checkpoint_activations(unet, "all")
    settings = DeepSpeedSettings(
        stage=3,
        precision="no",
        offload_optimizer_device="cpu",
        offload_param_device="cpu",
        reduce_bucket_size=200_000,
        stage3_prefetch_bucket_size=100_000,
        stage3_max_live_parameters=300_000,
        stage3_max_reuse_distance=10_000,
        stage3_param_persistence_threshold=STAYS,
    )
    config = to_deepspeed_json(settings, train_batch_size=1, learning_rate=1e-4, warmup_steps=1, total_steps=1_000)
    config = with_overrides(config, STREAMED["deepspeed.extra"])
    chosen = fetching.PartitionedParameterCoordinator if ours else deepspeeds.PartitionedParameterCoordinator
    with patch.object(optimizers, "_coordinator", lambda zero: chosen):
        return DeepSpeedEngine(unet, config)


def step(engine: DeepSpeedEngine) -> float:
    began = time.perf_counter()
    predicted = engine(
        torch.randn(1, 4, 8, 8),
        torch.tensor([3]),
        encoder_hidden_states=torch.randn(1, 4, 32),
        added_cond_kwargs={"text_embeds": torch.randn(1, 32), "time_ids": torch.randn(1, 6)},
    ).sample
    engine.backward(predicted.square().mean())
    engine.step()
    return time.perf_counter() - began


def counted(engine: DeepSpeedEngine) -> list[float]:
    """Seconds of each fetch and release from here on."""
    coordinator = engine._optimizer.parameter_offload.get_param_coordinator()
    seconds: list[float] = []

    def timed(do: Callable[..., None]) -> Callable[..., None]:
        def doing(*given: object, **how: object) -> None:
            began = time.perf_counter()
            do(*given, **how)
            seconds.append(time.perf_counter() - began)

        return doing

    for part in PARTS:
        setattr(coordinator, part, timed(getattr(coordinator, part)))
    return seconds


def main() -> None:
    made = argparse.ArgumentParser(prog="python -m benchmarks.fetching", description=__doc__)
    made.add_argument("--steps", type=int, default=15)
    steps = made.parse_args().steps
    torch.set_num_threads(1)
    world = World.join()
    engines = {name: new_engine(ours=name == "ours") for name in ("DeepSpeed's", "ours")}
    for engine in engines.values():
        for _ in range(LEARNING):
            step(engine)
    parts = {name: counted(engine) for name, engine in engines.items()}
    wholes: dict[str, list[float]] = {name: [] for name in engines}
    moved: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(steps):
        for name, engine in engines.items():
            parts[name].clear()
            wholes[name].append(step(engine))
            moved[name].append(sum(parts[name]))
    for what, seconds in (("a step", wholes), ("of it fetching and releasing", moved)):
        theirs, mine = (median(seconds[name]) for name in engines)
        print(f"{what}: {theirs:.3f} s with DeepSpeed's, {mine:.3f} s with ours, ratio {mine / theirs:.2f}")
    world.close()


if __name__ == "__main__":
    main()
