"""What the CPU does of an offloaded step, on tensors that no cache holds."""

from typing import Any

import torch

from launcher.machine.bandwidths import HostSpeed
from launcher.machine.toolchain import extensions_folder
from launcher.probes.bandwidths.clock import host_seconds
from launcher.train.offload.fused_adamw import load


def host_speed(elements: int) -> HostSpeed:
    """Measures it with the threads torch has.

    Args:
        elements: of each tensor.
    """
    # As ZeRO hands them over: fp32 masters and gradients, pinned where there is a GPU to copy to.
    pinned = torch.cuda.is_available()
    master, gradient = (torch.empty(elements, pin_memory=pinned).fill_(1e-3) for _ in range(2))
    weights = torch.empty(elements, dtype=torch.bfloat16, pin_memory=pinned)
    copying = host_seconds(lambda: master.copy_(gradient))
    scaling = host_seconds(lambda: gradient.mul_(0.999))
    converting = host_seconds(lambda: weights.copy_(master))
    parameter = torch.nn.Parameter(master)
    parameter.grad = gradient
    optimizer, name = _adam(parameter)
    updating = host_seconds(optimizer.step)
    optimizer.state.clear()
    return HostSpeed(
        copy_gb_s=2 * 4 * elements / copying / 1e9,
        scale_elements_s=elements / scaling,
        adam_elements_s=elements / updating,
        adam=name,
        convert_elements_s=elements / converting,
        one_pass_elements_s=_one_pass(master, weights),
    )


def _one_pass(master: torch.Tensor, weights: torch.Tensor) -> float | None:
    """Elements a second of the launcher's own, with gradients in the format of the weights."""
    adam = load()
    if isinstance(adam, str):
        return None
    gradient = torch.empty_like(weights, pin_memory=weights.is_pinned()).fill_(1e-3)
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "bias_correction": True}
    state: dict[str, Any] = {}
    seconds = host_seconds(
        lambda: adam.update(master, gradient, state, group, adam_w_mode=True, scale=0.999, weights_out=weights)
    )
    return master.numel() / seconds


def _adam(parameter: torch.nn.Parameter) -> tuple[torch.optim.Optimizer, str]:
    """DeepSpeed's, unless it would have to be compiled first, which takes a minute; torch's is as fast."""
    if not (extensions_folder() / "cpu_adam" / "cpu_adam.so").exists():
        return torch.optim.AdamW([parameter], fused=True), "torch's fused AdamW"
    from deepspeed.ops.adam import DeepSpeedCPUAdam  # noqa: PLC0415 - takes seconds

    optimizer: torch.optim.Optimizer = DeepSpeedCPUAdam([parameter])
    return optimizer, "DeepSpeed's CPUAdam"
