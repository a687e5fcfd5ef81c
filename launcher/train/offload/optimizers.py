"""When this launcher's ZeRO optimizers train in place of DeepSpeed's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

from deepspeed.runtime import engine
from deepspeed.runtime.superoffload import superoffload_stage3  # noqa: F401 - inherits from what is replaced below
from deepspeed.runtime.zero import stage3

from launcher.train.extensions import uses_torch_adam
from launcher.train.offload.fused_adamw import load
from launcher.train.offload.stage_1_and_2 import Stage1And2
from launcher.train.offload.stage_3 import Stage3

_OTHERWISE = ("data_types", "torch_autocast", "communication_data_type")
"""Sections of DeepSpeed's JSON under which gradients are kept or sent in another precision than the weights'."""


@contextmanager
def replacing_deepspeeds(config: Mapping[str, Any]) -> Iterator[None]:
    """An engine that is made inside gets this launcher's optimizer, where there is one for its configuration.

    DeepSpeed has no place to say which class its engine makes; both are looked up by name when it does.

    Args:
        config: of the engine.
    """
    adam = load() if _is_ours(config) else ""
    if isinstance(adam, str):
        yield
        return
    with (
        patch.object(engine, "DeepSpeedZeroOptimizer", partial(Stage1And2, adam=adam)),
        patch.object(stage3, "DeepSpeedZeroOptimizer_Stage3", partial(Stage3, adam=adam)),
    ):
        yield


def _is_ours(config: Mapping[str, Any]) -> bool:
    """Whether it is an Adam on the CPU with weights in bf16 or fp32, and all states in host memory.

    Everything else is DeepSpeed's own, and so is this where the update does not compile.
    """
    zero, optimizer, bf16 = config["zero_optimization"], config["optimizer"], config.get("bf16", {})
    offload = zero.get("offload_optimizer", {})
    return (
        zero["stage"] > 0
        and offload.get("device") == "cpu"
        and offload.get("ratio", 1.0) == 1.0
        and not offload.get("super_offload")
        and zero.get("offload_param", {}).get("device") != "nvme"
        and "zenflow" not in zero
        and not config.get("fp16", {}).get("enabled")
        and not bf16.get("bf16_master_weights_and_grads")
        and not bf16.get("bf16_optimizer_states")
        and optimizer["type"] in ("Adam", "AdamW")
        and not uses_torch_adam(optimizer)
        and not any(section in config for section in _OTHERWISE)
    )
