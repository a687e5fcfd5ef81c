"""Gradients of several micro-batches, added up by each rank for itself before they are averaged over the ranks."""

from collections.abc import Sequence

import torch

from launcher.train.offload.gradients import HostGradients, Key, Run, in_runs


class LocalSums(HostGradients):
    """What this rank computed in a step before its last micro-batch, of all parameters, in host memory.

    DeepSpeed's stage 2 averages over the ranks in every micro-batch, so that each keeps its own part alone. Here that
    happens once a step: what ranks would send each other goes to the host and comes back, which no other rank waits
    for. Sums are the same but for the order in which they are rounded.
    """

    def give(self, full: torch.Tensor, pieces: Sequence[Run]) -> None:
        """Adds the sums to a step's last gradients on the GPU, in order on its current stream, and forgets them.

        Args:
            full: these lie in, flat; the sums of the step, afterwards.
            pieces: of it, one for each parameter.
        """
        for run, known in in_runs(pieces, self._came):
            if known:
                self._add_to(full.narrow(0, run.source, run.size), run)
        for run in pieces:
            self._came.pop(run.key, None)

    def has(self, key: Key) -> bool:
        """Whether something of these elements came, and was not given yet."""
        return key in self._came
