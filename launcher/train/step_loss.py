"""The loss of one optimizer step: what the ranks agree on before any of them takes it."""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch

from launcher.data.dataset import listed
from launcher.errors import RunFailedError
from launcher.train.distributed import World


@dataclass(frozen=True, slots=True)
class StepLoss:
    """The losses of one rank's micro-batches; nothing waits for the device until the ranks agree."""

    accumulation: int
    _micro_batches: list[tuple[torch.Tensor, tuple[Path, ...]]] = field(default_factory=list)

    def add(self, loss: torch.Tensor, paths: tuple[Path, ...]) -> bool:
        """Counts a micro-batch in: its loss, a scalar, and the files of its pictures.

        Returns:
            Whether it was the step's last.
        """
        self._micro_batches.append((loss.detach(), paths))
        return len(self._micro_batches) == self.accumulation

    def agree(self, world: World, step: int) -> float:
        """The mean over the global batch; every rank calls it before the update.

        It waits for the device, as the update would for its gradients' norm.

        Raises:
            RunFailedError: it is not finite on some rank; on every rank, with the files of those micro-batches.
        """
        mean = torch.zeros_like(self._micro_batches[0][0])
        for loss, _ in self._micro_batches:
            mean += loss / self.accumulation
        means = [row[0] for row in world.gather([float(mean)])]
        if not all(map(math.isfinite, means)):
            mine = [str(path) for loss, paths in self._micro_batches if not loss.isfinite() for path in paths]
            raise RunFailedError(_message(step, [path for paths in world.from_all(mine) for path in paths]))
        return sum(means) / len(means)


def _message(step: int, paths: list[str]) -> str:
    """What to look at: the pictures themselves, or what they all went through."""
    return (
        f"the loss of step {step} is not a finite number, so the step was not taken; earlier checkpoints are whole. "
        "If the same pictures are named again when the run is continued, remove them or the caches in "
        "training.cache_dir; if not, training diverges: lower training.learning_rate, and prefer bf16 to fp16. Its "
        f"pictures:\n  {listed(paths)}"
    )
