"""When this launcher's ZeRO optimizers train in place of DeepSpeed's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import deepspeed.comm as dist
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime import engine
from deepspeed.runtime.superoffload import superoffload_stage3  # noqa: F401 - inherits from what is replaced below
from deepspeed.runtime.zero import parameter_offload, stage3

from launcher.config.engine import updates_in_one_pass
from launcher.train.offload.fetching import PartitionedParameterCoordinator
from launcher.train.offload.fused_adamw import FusedAdamW, load
from launcher.train.offload.stage_1_and_2 import Stage1And2
from launcher.train.offload.stage_3 import Stage3

_WAYS_OF_FETCHING = (
    "zero_quantized_weights",
    "zero_quantized_nontrainable_weights",
    "stage3_module_granularity_threshold",
    "stage3_use_all_reduce_for_fetch_params",
    "stage3_allgather_sequential",
)
"""Keys of DeepSpeed's JSON: weights packed, modules made whole by size, and parts that are exchanged otherwise."""


@contextmanager
def replacing_deepspeeds(config: Mapping[str, Any]) -> Iterator[None]:
    """An engine that is made inside gets this launcher's optimizer, where there is one for its configuration.

    DeepSpeed has no place to say which class its engine makes; both are looked up by name when it does.

    Args:
        config: of the engine.
    """
    adam = _on_every_rank() if updates_in_one_pass(config) else None
    if adam is None:
        yield
        return
    with (
        patch.object(engine, "DeepSpeedZeroOptimizer", partial(Stage1And2, adam=adam)),
        patch.object(stage3, "DeepSpeedZeroOptimizer_Stage3", partial(Stage3, adam=adam)),
        patch.object(parameter_offload, "PartitionedParameterCoordinator", _coordinator(config["zero_optimization"])),
    ):
        yield


def _on_every_rank() -> FusedAdamW | None:
    """The update; None where any rank has none: another machine's may lack a compiler, and both kinds exchange tensors
    of their own."""
    adam = load()
    there = torch.tensor(int(isinstance(adam, FusedAdamW)), device=get_accelerator().current_device_name())
    dist.all_reduce(there, op=dist.ReduceOp.MIN)
    return adam if isinstance(adam, FusedAdamW) and bool(there) else None


def _coordinator(zero: Mapping[str, Any]) -> type:
    """What fetches weights: DeepSpeed's own where it is asked for a way of its own."""
    in_groups = zero.get("zero_hpz_partition_size", 1) > 1 or zero.get("mics_shard_size", -1) > 0
    asked = in_groups or any(map(zero.get, _WAYS_OF_FETCHING))
    deepspeeds: type = parameter_offload.PartitionedParameterCoordinator
    return deepspeeds if asked else PartitionedParameterCoordinator
