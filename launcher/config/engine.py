"""How this launcher sets up the engine of a deepspeed.json: what training does by it and the estimate counts by it."""

from collections.abc import Mapping
from typing import Any

from launcher.config.deepspeed import GROUP_ELEMENTS

COPIED_AT_ONCE = 1 << 23
"""Elements of a gradient's copy to the host: enough for PCIe's whole speed, and little on the GPU where micro-batches
are added up."""
PACKED_AT_ONCE = 1 << 22
"""Elements of gradients that wait until they are copied into a bucket together: little on the GPU, and few copies."""
ADD_UP_AT_MOST = 2
"""Processes that add up micro-batches by themselves: each holds all gradients in host memory and moves them there. Of
more that is more than they save each other."""
_OTHERWISE = ("data_types", "torch_autocast", "communication_data_type")
"""Sections of DeepSpeed's JSON under which gradients are kept or sent in another precision than the weights'."""


def uses_torch_adam(optimizer: Mapping[str, Any]) -> bool:
    """Whether a configuration's ``optimizer`` section asks for torch's Adam."""
    return bool(optimizer.get("params", {}).get("torch_adam"))


def updates_in_one_pass(config: Mapping[str, Any]) -> bool:
    """Whether ``launcher.train.offload`` trains.

    It does for an Adam on the CPU with weights in bf16 or fp32, and all states in host memory. Everything else is
    DeepSpeed's own. So is this where the update does not compile; whoever asks here assumes that it does.
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


def adds_up_by_itself(stage: int, ranks: int, accumulation: int) -> bool:
    """Whether ``launcher.train.offload`` has each of several ranks add up its micro-batches, to average once a step."""
    return stage == 2 and 1 < ranks <= ADD_UP_AT_MOST and accumulation > 1


def parameter_groups(config: Mapping[str, Any]) -> int | None:
    """Elements at most of the groups that DeepSpeed is given; None where it gets one of each kind.

    Muon's are made by DeepSpeed, and torch's Adagrad it puts into one group, then looks for the others.
    """
    zero, kind = config["zero_optimization"], config["optimizer"]["type"]
    on_gpu = zero.get("offload_optimizer", {}).get("device", "none") == "none"
    whole = kind == "Muon" or (kind == "Adagrad" and on_gpu)
    return GROUP_ELEMENTS if zero["stage"] in (1, 2) and not whole else None


def parts_before_the_gpu(config: Mapping[str, Any]) -> bool:
    """Whether stage 3 takes the weights apart one by one; left to the engine, all are on the GPU first: 4.8 GiB."""
    zero = config["zero_optimization"]
    return bool(zero["stage"] == 3 and zero.get("offload_param", {}).get("device") != "nvme")
