"""DeepSpeed's engine around the U-Net, through its public entry points only."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.utils import safe_get_full_fp32_param

from launcher.config.deepspeed import with_overrides
from launcher.errors import CannotRunHereError
from launcher.train.distributed import World
from launcher.train.report import LOGGER, Report

TAG = "engine"
"""Folder of DeepSpeed's own files inside a checkpoint."""

TORCH_ADAM = {"optimizer.params.torch_adam": True, "optimizer.params.fused": True}
"""torch's fused AdamW in CPUAdam's place: equal within 5e-8 and as fast, and nothing is compiled for it."""


class DeepSpeedEngine:
    """The U-Net in training under one DeepSpeed configuration."""

    def __init__(self, unet: torch.nn.Module, config: Mapping[str, Any]) -> None:
        """Builds optimizer, schedule and partitions; what deepspeed.json says is what DeepSpeed gets."""
        self._unet = unet
        self.torch_adam = _torch_adam(config["optimizer"])
        trainable = [parameter for parameter in unet.parameters() if parameter.requires_grad]
        self._engine, self._optimizer, _, _ = deepspeed.initialize(
            model=unet, model_parameters=trainable, config=dict(config)
        )

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> Any:
        """The U-Net's forward pass."""
        return self._engine(sample, timestep, **conditioning)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of a micro-batch; DeepSpeed divides by the accumulation."""
        self._engine.backward(loss)

    def step(self) -> None:
        """Ends a micro-batch; the last of a step updates the weights and the schedule."""
        self._engine.step()

    def evaluating(self, evaluating: bool) -> None:
        """Switches between evaluation and training."""
        self._engine.train(not evaluating)

    @property
    def learning_rate(self) -> float:
        """The rate the next update uses: the optimizer's own, not what a schedule announces."""
        return float(self._engine.optimizer.param_groups[0]["lr"])

    @property
    def gradient_norm(self) -> float | None:
        """Global norm of the last update's gradients before clipping; None where DeepSpeed does not tell."""
        norm = self._engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    def save(self, folder: Path) -> None:
        """Writes everything a resume needs below ``folder``; every rank calls it."""
        self._engine.save_checkpoint(str(folder), tag=TAG, save_latest=False)

    def load(self, folder: Path) -> None:
        """Restores what :meth:`save` wrote; every rank calls it."""
        loaded, _ = self._engine.load_checkpoint(str(folder), tag=TAG)
        if loaded is None:
            raise FileNotFoundError(folder / TAG)

    def master_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each parameter's fp32 master by name, whole; every rank must go through all of them."""
        for name, parameter in self._unet.named_parameters():
            master = safe_get_full_fp32_param(parameter)  # None where the weights are their own masters
            yield name, parameter.detach() if master is None else master


def build_extensions(
    config: Mapping[str, Any], world: World, report: Report, *, torch_adam: bool = False
) -> dict[str, Any]:
    """Compiles the optimizer's extension, once per machine, before anything large is loaded.

    Where it cannot be compiled, Adam falls back to torch's own fused one and the person is told.

    Args:
        config: as deepspeed.json holds it.
        world: rank 0 compiles, the others wait.
        report: told of the fallback.
        torch_adam: whether the run continues a state of torch's Adam, which only that can read.

    Returns:
        The configuration to train with.

    Raises:
        CannotRunHereError: the optimizer exists only as an extension, and it does not compile here.
    """
    if torch_adam:
        config = with_overrides(config, TORCH_ADAM)
    optimizer = config["optimizer"]
    name = _extension(optimizer, config)
    if name is None:
        return dict(config)
    failure = None
    if world.is_main:
        try:
            get_accelerator().get_op_builder(name)().load(verbose=False)
        except Exception as error:  # a build fails in as many ways as there are compilers
            LOGGER.exception("%s does not build", name)
            failure = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    failure = world.from_main(failure)
    if failure is None:
        return dict(config)
    if optimizer["type"] not in ("Adam", "AdamW"):
        raise CannotRunHereError(
            f"{optimizer['type']} with offload needs DeepSpeed's {name} extension, which does not compile "
            f"here ({failure}); install a C++ compiler (Debian, Ubuntu: apt install g++), or choose AdamW"
        )
    report.warning(
        f"DeepSpeed's CPU Adam does not compile here ({failure}); torch's fused AdamW does the same update "
        "instead. To compile it: install g++ and the Python headers (Debian, Ubuntu: apt install g++ "
        "python3-dev)"
    )
    return with_overrides(config, TORCH_ADAM)


def _torch_adam(optimizer: Mapping[str, Any]) -> bool:
    return bool(optimizer.get("params", {}).get("torch_adam"))


def _extension(optimizer: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """The op builder an optimizer needs, or None; as ``_configure_basic_optimizer`` builds it."""
    offloads = config.get("zero_optimization", {}).get("offload_optimizer", {}).get("device", "none") != "none"
    if optimizer["type"] in ("Adam", "AdamW"):
        if _torch_adam(optimizer):
            return None
        return "CPUAdamBuilder" if offloads else "FusedAdamBuilder"
    if optimizer["type"] == "Lion":
        return "CPULionBuilder" if offloads else "FusedLionBuilder"
    return "CPUAdagradBuilder" if offloads else None
