"""Gradients in host memory, where an optimizer on the CPU reads them."""

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import deepspeed.comm as dist
import torch
from deepspeed.accelerator import get_accelerator

from launcher.config.engine import COPIED_AT_ONCE

_SUMS = {True: torch.float32, False: torch.float64}
"""In which a norm is summed up: a GPU, which needs no copy for fp32, adds in a tree, a CPU one after the other."""


Key = tuple[int, int]
"""A group and a place in it."""


class Run(NamedTuple):
    """Elements that lie one after the other, on the GPU and on the host."""

    source: int
    """Where they begin on the GPU."""
    group: int
    """Which of the host's flat buffers they belong to."""
    place: int
    """Where they begin in it."""
    size: int

    @property
    def key(self) -> Key:
        """Which elements of the host's they are."""
        return self.group, self.place


class HostGradients:
    """One flat buffer for each group of parameters, and the norm of what came into them.

    A parameter without a gradient in a step counts as one whose gradient is zero, as at DeepSpeed's stages 1 and 2
    without offload. With it, and at stage 3, DeepSpeed applies the gradient of an earlier step once more.
    """

    def __init__(self, groups: Sequence[torch.Tensor]) -> None:
        """Nothing came yet.

        Args:
            groups: the buffers, flat, zero, in the precision that gradients are computed in; where they are pinned the
                GPU copies while it computes.
        """
        self._groups = groups
        self._norms: list[torch.Tensor] = []
        self._came: dict[Key, Run] = {}
        """Of this step, by group and place."""
        self._measured: set[Key] = set()
        """Those whose norm is in the list."""
        self._earlier: dict[Key, Run] = {}
        """Of the step before, which the buffers hold until others come."""

    def of_group(self, index: int) -> torch.Tensor:
        """The gradients of a group, flat."""
        return self._groups[index]

    def take(self, full: torch.Tensor, pieces: Iterable[Run], *, last: bool) -> None:
        """Copies gradients from the GPU, in order on its current stream and without waiting for it.

        Args:
            full: they lie in, flat. Micro-batches are added up in it.
            pieces: of it, one for each parameter, and where each belongs.
            last: whether nothing of this step comes after; its norm is taken then.
        """
        together = list(pieces)
        for run, known in in_runs(together, self._came):
            part = full.narrow(0, run.source, run.size)
            if known:
                self._add_to(part, run)
            if last:
                self._norms.append(torch.linalg.vector_norm(part, dtype=_SUMS[part.is_cuda]))
            self._kept(run).copy_(part, non_blocking=True)
        came = {run.key: run for run in together}
        self._came |= came
        self._measured |= came.keys() if last else set()

    def norm(self, ranks: Any) -> float:
        """The L2 norm of a step's gradients, which are those since the last call; the GPU must have copied them.

        Args:
            ranks: process group of those that hold the rest, None where this one holds all.
        """
        for key in self._earlier.keys() - self._came.keys():
            self._kept(self._earlier[key]).zero_()
        norms = self._norms or [torch.zeros((), device=get_accelerator().current_device_name())]
        squares = torch.stack(norms).double().square().sum()
        for key in self._came.keys() - self._measured:  # those that nothing came of at last
            squares += torch.linalg.vector_norm(self._kept(self._came[key]), dtype=_SUMS[False]).square()
        if ranks is not None:
            dist.all_reduce(squares, group=ranks)
        self._norms, self._measured = [], set()
        self._came, self._earlier = {}, self._came
        return float(squares.sqrt())

    def _add_to(self, part: torch.Tensor, run: Run) -> None:
        part.add_(self._kept(run).to(part.device, non_blocking=True))

    def _kept(self, run: Run) -> torch.Tensor:
        return self._groups[run.group].narrow(0, run.place, run.size)


def in_runs(pieces: Iterable[Run], came: Container[Key]) -> Iterator[tuple[Run, bool]]:
    """The same elements in fewer runs, and of each whether they came before.

    Args:
        pieces: one for each parameter, in the order they lie in on the GPU.
        came: those that did.
    """
    for known, together in groupby(pieces, key=lambda run: run.key in came):
        for run in merge(together, COPIED_AT_ONCE):
            yield run, known


def merge(pieces: Iterable[Run], at_most: int) -> Iterator[Run]:
    """The same elements in fewer runs: pieces are put together where one begins as the other ends on both sides.

    Args:
        pieces: in the order they lie in on the GPU.
        at_most: elements of a run.
    """
    current: Run | None = None
    for piece in pieces:
        if current and _follows(current, piece):
            current = Run(current.source, current.group, current.place, current.size + piece.size)
        else:
            if current:
                yield from _cut(current, at_most)
            current = piece
    if current:
        yield from _cut(current, at_most)


def clip_factor(norm: float, largest: float) -> float:
    """What gradients are multiplied with so that their norm is ``largest`` at the most, as DeepSpeed computes it.

    Args:
        norm: of the gradients.
        largest: 0 turns clipping off.
    """
    return 1 / max((norm + 1e-6) / largest, 1.0) if largest > 0 else 1.0


def _follows(first: Run, second: Run) -> bool:
    here, there = first.source + first.size, first.place + first.size
    return (second.source, second.group, second.place) == (here, first.group, there)


def _cut(run: Run, at_most: int) -> Iterator[Run]:
    for start in range(0, run.size, at_most):
        yield Run(run.source + start, run.group, run.place + start, min(at_most, run.size - start))
