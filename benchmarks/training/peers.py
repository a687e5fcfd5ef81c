"""``python -m benchmarks.training.peers WAY ...``: optimizers of other packages around the same U-Net and batches.

Weights are bf16 on the GPU and their own masters, which is what these packages are used with.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from deepspeed.runtime.lr_schedules import WarmupLR

from benchmarks.plain_loop import begin, load_batches, load_unet, parser, train

ADAM = {"lr": 1e-5, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
Parameters = Iterable[torch.nn.Parameter]


def torchao(parameters: Parameters) -> Any:
    """Masters, states and gradients in pinned host memory; each parameter's update begins when its gradient is there."""
    from torchao.optim import CPUOffloadOptimizer

    return CPUOffloadOptimizer(parameters, torch.optim.AdamW, offload_gradients=True, fused=True, **ADAM)


def bitsandbytes(parameters: Parameters) -> Any:
    """States in CUDA's managed memory, which leaves a GPU that is full."""
    from bitsandbytes.optim import PagedAdamW8bit

    return PagedAdamW8bit(parameters, **ADAM)


WAYS: dict[str, tuple[Callable[[Parameters], Any], bool]] = {
    "torchao": (torchao, False),
    "bitsandbytes": (bitsandbytes, True),
}
"""How the optimizer is made, and whether gradients can be clipped before it steps."""


class Plain:
    """A U-Net and an optimizer in the hands of the loop."""

    def __init__(self, unet: torch.nn.Module, optimizer: Any, accumulation: int, clips: bool) -> None:
        self._unet, self._optimizer, self._accumulation, self._clips = unet, optimizer, accumulation, clips
        self._schedule = WarmupLR(optimizer, warmup_max_lr=ADAM["lr"], warmup_num_steps=2)
        self._micro_steps = 0

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> Any:
        """The U-Net's forward pass."""
        return self._unet(sample, timestep, **conditioning)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of a micro-batch."""
        (loss / self._accumulation).backward()

    def step(self) -> None:
        """Ends a micro-batch; the last of a step updates the weights."""
        self._micro_steps += 1
        if self._micro_steps % self._accumulation:
            return
        if self._clips:
            torch.nn.utils.clip_grad_norm_(self._unet.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()


def main() -> None:
    made = parser(__doc__)
    made.add_argument("way", choices=WAYS)
    chosen = made.parse_args()
    make, clips = WAYS[chosen.way]
    device, report = begin(chosen.events)
    with report.phase("load"):
        unet, batches = load_unet(chosen.model), load_batches(chosen.batches)
    with report.phase("engine"):
        unet.to(device)
        engine = Plain(unet, make(unet.parameters()), chosen.accumulation, clips)
    train(engine, batches, chosen.accumulation, device, report)


if __name__ == "__main__":
    main()
