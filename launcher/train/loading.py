"""The U-Net as it is trained, in the hands of an engine."""

from typing import Any

import torch
from diffusers import UNet2DConditionModel

from launcher.config.accelerate import Dynamo
from launcher.config.training import TrainingSettings
from launcher.runs.checkpoints import Identity
from launcher.runs.directory import RunDirectory
from launcher.train.activations import checkpoint_activations
from launcher.train.compiling import compile_unet
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.distributed import World
from launcher.train.engine import Engine
from launcher.train.lora import add_adapter
from launcher.train.memory import release
from launcher.train.models import ModelSource
from launcher.train.plain_engine import PlainEngine
from launcher.train.report import Report

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}


def load_engine(
    run: RunDirectory,
    model: ModelSource,
    identity: Identity,
    config: dict[str, Any],
    attention: str,
    world: World,
    report: Report,
) -> Engine:
    """Loads the U-Net and builds the engine around it.

    Args:
        run: says what is trained of it.
        model: brings it.
        identity: of the run: precision, and which engine.
        config: as deepspeed.json holds it.
        attention: the kernel that will be used.
        world: the ranks.
        report: gets phases ``load`` and ``engine`` and the event ``model``.
    """
    training, dtype, dynamo = run.training(), DTYPES[identity.precision], run.dynamo()
    with report.phase("load"):
        unet = _unet(model, training, dtype, dynamo)
        sizes = [(each.numel(), each.requires_grad) for each in unet.parameters()]  # before an engine divides them
    with report.phase("engine"):
        exclude = training.optimization.weight_decay_exclude
        engine: Engine = (
            PlainEngine(unet, config, world, exclude)
            if identity.zero_stage is None
            else DeepSpeedEngine(unet, config, exclude)
        )
        release(world.device)  # the start holds three times the weights, and leaves all of it reserved
    report.event(
        "model",
        parameters=sum(size for size, _ in sizes),
        trainable=sum(size for size, trained in sizes if trained),
        lora_rank=training.adapter.lora_rank if training.adapter.is_lora else None,
        dtype=str(dtype).removeprefix("torch."),
        zero_stage=identity.zero_stage,
        world_size=world.world_size,
        compiled=dynamo.backend.lower() if dynamo else None,
        attention=attention,
        device=torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "CPU",
    )
    return engine


def _unet(
    model: ModelSource, training: TrainingSettings, dtype: torch.dtype, dynamo: Dynamo | None
) -> UNet2DConditionModel:
    """With an adapter, gradient checkpointing and torch.compile where they are asked for."""
    unet = model.unet(dtype)
    if training.adapter.is_lora:
        add_adapter(unet, training.adapter, training.optimization.seed)
    if training.optimization.gradient_checkpointing:
        granularity = training.optimization.gradient_checkpointing_granularity
        checkpoint_activations(unet, granularity, compiled=bool(dynamo))
    if dynamo:
        compile_unet(unet, dynamo)
    return unet
