"""A small module at stage 3, watched as its weights come and go: fetched by the launcher, or by DeepSpeed's own."""

import contextlib
from unittest.mock import patch

import torch
from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
from torch.utils.checkpoint import checkpoint

from harness import offloads
from harness.offloads import NARROW, WIDE, new_engine, take_steps
from launcher.train.offload import optimizers
from launcher.train.offload.fetching import PartitionedParameterCoordinator

LIVE = 12_000
"""Elements that may be gathered at once; a wide layer has 9,312."""
SMALL = {
    "offload_param_device": "cpu",
    "stage3_max_live_parameters": LIVE,
    "stage3_param_persistence_threshold": 0,
}


class Blocks(offloads.Uneven):
    """Some of its layers are of two."""

    def __init__(self, frozen: bool) -> None:
        super().__init__(frozen)
        self.always = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(WIDE, WIDE).requires_grad_(not frozen), second)
            for second in self.always
        )


def engine_of(*, deepspeeds: bool = False, frozen: bool = False, **settings):
    """An engine with our coordinator, or with DeepSpeed's in the same optimizer."""
    theirs = patch.object(
        optimizers, "_coordinator", lambda zero: optimizers.parameter_offload.PartitionedParameterCoordinator
    )
    with patch.object(offloads, "Uneven", Blocks), theirs if deepspeeds else contextlib.nullcontext():
        engine, module = new_engine(3, frozen=frozen, **SMALL | settings)
    coordinator = engine._optimizer.parameter_offload.get_param_coordinator()
    assert isinstance(coordinator, PartitionedParameterCoordinator) is not deepspeeds
    return engine, module, coordinator


CASES = {
    "as little as possible": {},
    "ahead": {"stage3_prefetch_bucket_size": 10_000, "stage3_max_live_parameters": 30_000},
    "all ahead": {"stage3_prefetch_bucket_size": 10**9, "stage3_max_live_parameters": 10**9},
    "kept for what comes soon": {"stage3_max_reuse_distance": 20_000},
    "kept and ahead": {"stage3_max_reuse_distance": 20_000, "stage3_prefetch_bucket_size": 10_000},
    "small ones stay": {"stage3_param_persistence_threshold": 100},
    "on the device": {"offload_param_device": "none"},
    "frozen layers": {"frozen": True},
    "frozen layers, fetched whole": {
        "frozen": True,
        "overrides": {"zero_optimization": {"leaf_module": {"classes": ["Sequential"]}}},
    },
    "fetched whole": {"overrides": {"zero_optimization": {"leaf_module": {"classes": ["Sequential"]}}}},
}


def watched(group, *, again: bool, unused=(), **settings):
    """What a few steps tell, and which weights are there or on their way after each fetch and release."""
    engine, module, coordinator = engine_of(**settings)
    if again:
        for layer in (module.sometimes, *module.always):
            computed = layer.forward
            layer.forward = lambda given, computed=computed: checkpoint(computed, given, use_reentrant=False)
    seen = []
    for name in ("fetch_sub_module", "release_sub_module", "release_and_reset_all"):
        did = getattr(coordinator, name)

        def doing(given, *, did=did, name=name, **how):
            did(given, **how)
            here = [
                each for each, param in module.named_parameters() if param.ds_status != ZeroParamStatus.NOT_AVAILABLE
            ]
            seen.append(
                (
                    name,
                    type(given).__name__,
                    *how.values(),
                    here,
                    coordinator._PartitionedParameterCoordinator__n_available_params,
                )
            )

        setattr(coordinator, name, doing)
    try:
        told = take_steps(group, engine, module, 5, accumulation=2, unused=unused)
    except RuntimeError as error:  # where DeepSpeed's own misses weights, with part of a block frozen
        return str(error), seen
    with torch.no_grad():  # as when a loss is evaluated
        engine(torch.ones(2, NARROW).bfloat16(), torch.ones((), dtype=torch.bfloat16))
    more = take_steps(group, engine, module, 4, first=5, accumulation=2)
    return told["losses"] + more["losses"], told["norms"] + more["norms"], seen
