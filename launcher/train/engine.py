"""What the loop, checkpoints and export know of an engine: the U-Net with its optimizer and schedule."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from launcher.train.universal.filling import Piece


class UNet(Protocol):
    """What the objective calls: the U-Net itself or the engine around it."""

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> Any:
        """Predicts the noise in ``sample``."""


class Engine(UNet, Protocol):
    """The U-Net in training; every rank makes every call."""

    torch_adam: bool
    """Whether its Adam is torch's own, whose states DeepSpeed's cannot read."""

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of a micro-batch, divided by the accumulation."""

    def step(self) -> None:
        """Ends a micro-batch; the last of a step updates the weights and the schedule."""

    def evaluating(self, evaluating: bool) -> None:
        """Switches between evaluation and training."""

    @property
    def learning_rate(self) -> float:
        """The rate the next update uses: the optimizer's own, not what a schedule announces."""

    @property
    def gradient_norm(self) -> float | None:
        """Global norm of the last update's gradients before clipping; None where it is not told."""

    @property
    def loss_scale(self) -> float | None:
        """What the next loss is multiplied with in fp16; None in other precisions."""

    @property
    def updated(self) -> bool:
        """Whether the last step changed the weights; in fp16 one whose gradients overflow does not."""

    def save(self, folder: Path) -> None:
        """Writes everything a resume needs below ``folder``."""

    def load(self, folder: Path) -> None:
        """Restores what :meth:`save` wrote."""

    def load_universal(self, folder: Path, step: int) -> None:
        """Continues a universal checkpoint of ``step`` steps, whichever engine it is from."""

    def master_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each trained parameter's fp32 master by name, whole."""

    def master_partitions(self) -> Sequence[torch.Tensor]:
        """This rank's own share of the fp32 masters, always in the same order; writing to it changes the masters.

        Over all ranks each master is in one share: what every rank holds alike is rank 0's. They change in
        :meth:`step` and :meth:`load` only.
        """

    def pieces_of_partitions(self) -> Sequence[list[Piece]]:
        """What of which parameter lies in each of :meth:`master_partitions`."""
