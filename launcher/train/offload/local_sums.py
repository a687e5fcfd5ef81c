"""Gradients of several micro-batches, added up by each rank for itself before they are averaged over the ranks."""

from collections.abc import Iterable, Sequence

import torch

from launcher.train.offload.gradients import Key, Run, in_runs


class LocalSums:
    """What this rank computed in a step before its last micro-batch, of all parameters, in host memory.

    DeepSpeed's stage 2 averages over the ranks in every micro-batch, so that each keeps its own part alone. Here that
    happens once a step: what ranks would send each other goes to the host and comes back, which no other rank waits
    for. Sums are the same but for the order in which they are rounded.
    """

    def __init__(self, groups: Sequence[torch.Tensor]) -> None:
        """Nothing came yet.

        Args:
            groups: a buffer for each group of parameters, flat, in the precision that gradients are computed in.
        """
        self._groups = groups
        self._came: set[Key] = set()

    def keep(self, full: torch.Tensor, pieces: Sequence[Run]) -> None:
        """Adds gradients up and copies the sums from the GPU, in order on its current stream.

        Args:
            full: they lie in, flat; the sums, afterwards.
            pieces: of it, one for each parameter.
        """
        self._add(full, pieces)
        for run, _ in in_runs(pieces, ()):
            self._kept(run).copy_(full.narrow(0, run.source, run.size), non_blocking=True)
        self._came |= {run.key for run in pieces}

    def give(self, full: torch.Tensor, pieces: Sequence[Run]) -> None:
        """Adds the sums to a step's last gradients on the GPU, in order on its current stream, and forgets them.

        Args:
            full: these lie in, flat; the sums of the step, afterwards.
            pieces: of it, one for each parameter.
        """
        self._add(full, pieces)
        self._came -= {run.key for run in pieces}

    def has(self, key: Key) -> bool:
        """Whether something of these elements came, and was not given yet."""
        return key in self._came

    def _add(self, full: torch.Tensor, pieces: Iterable[Run]) -> None:
        for run, known in in_runs(pieces, self._came):
            if known:
                part = full.narrow(0, run.source, run.size)
                part.add_(self._kept(run).to(part.device, non_blocking=True))

    def _kept(self, run: Run) -> torch.Tensor:
        return self._groups[run.group].narrow(0, run.place, run.size)
