"""Weights at ZeRO stage 3, fetched ahead of their use and kept where they are used again soon.

Source: ``runtime/zero/partitioned_param_coordinator.py`` of DeepSpeed 0.19.8, and ``launcher.train.offload.fetching``.
The order of modules is learnt in the first step: in it nothing is fetched ahead, and everything is released.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from itertools import accumulate
from math import inf

from launcher.estimate.engine_facts import EngineFacts
from launcher.estimate.gpu import GATHERED, Gpu, Tensor
from launcher.estimate.trace import Kind
from launcher.estimate.units import Units

STREAM = 1
"""DeepSpeed's own for it, which has memory of its own; with ``overlap_comm`` only."""


class _Ahead:
    """How far it is to the next use of a weight, as DeepSpeed counts it."""

    def __init__(self, weights: Sequence[Sequence[int]], units: Units) -> None:
        elements = [sum(units.sizes[each] for each in members) for members in weights]
        self._before = [0, *accumulate(elements[unit] for unit in units.passes)]
        self._uses: dict[int, list[int]] = {}
        for place, unit in enumerate(units.passes):
            for each in weights[unit]:
                self._uses.setdefault(each, []).append(place)

    def distance(self, each: int, begun: int) -> float:
        """Elements from the last of the passes begun to the next that takes a weight; infinite where none does."""
        uses = self._uses[each]
        later = bisect_left(uses, begun)
        return self._before[uses[later]] - self._before[begun] if later < len(uses) else inf


class Fetching:
    """Which weights are on the GPU."""

    def __init__(self, gpu: Gpu, units: Units, facts: EngineFacts) -> None:
        """None but the small ones.

        Args:
            gpu: they lie on.
            units: of the U-Net.
            facts: of the engine.
        """
        self._gpu, self._facts = gpu, facts
        self._stream = STREAM if facts.overlap else 0
        self._backward, self._saving = _last_and_saving(units) if facts.linear_keeps else (set(), set())
        self._matrices, self._saved = units.matrices, dict[int, Tensor]()
        self._units, self._sizes, self._passes, self._whole = units.members, units.sizes, units.passes, units.whole
        self.staying = sum(size for size in self._sizes if size <= facts.persistence_threshold)
        """Elements of weights that are never released."""
        self.fetched_elements = self.fetched_tensors = 0
        """Since the start."""
        # For a block that is fetched whole, DeepSpeed looks into all that comes after it, parts of parts included.
        self._ahead = {whole: _Ahead(units.reach if whole else self._units, units) for whole in set(units.whole)}
        self._here: dict[int, Tensor] = {}
        self._late: deque[tuple[int, Tensor]] = deque()
        """What is released, by the pass it was: on a stream of its own it is free once the GPU is through, which the
        thread that launches is ahead of."""
        self._under_way: dict[int, tuple[Tensor, list[int]]] = {}
        """What arrives together in one tensor, by each weight in it."""
        self._learnt = False
        self._begin_step()

    def begin(self, number: int) -> None:
        """A pass through a unit begins: what it takes is fetched and waited for, and more is fetched ahead."""
        self._begun = number + 1
        while self._late and self._late[0][0] < number:
            self._gpu.give(self._late.popleft()[1])
        unit = self._units[self._passes[number]]
        self._fetch([each for each in unit if self._is_away(each)])
        for each in unit:
            self._wait(each)
        if not self._learnt:
            return
        missing = {each for each in unit if self._fetched_for.get(each, -1) < number}
        while self._queue and missing:
            each, place = self._queue.popleft()
            self._fetched_for[each] = place
            missing.discard(each)
        self._fetch_ahead()

    def end(self, number: int) -> None:
        """The pass is over: what is not used again soon is released."""
        unit = self._passes[number]
        for each in self._units[unit]:
            if number in self._backward and each in self._saved:
                self._gpu.give(self._saved.pop(each))
            if each in self._here and not (self._learnt and self._is_used_soon(each, unit)):
                self._release(each, saved=number in self._saving and self._matrices[each])

    def over(self) -> None:
        """The backward pass is over: everything is released."""
        for each in list(self._under_way):
            self._wait(each)
        for each in list(self._here):
            self._release(each)
        while self._late:
            self._gpu.give(self._late.popleft()[1])
        self._learnt = True
        self._begin_step()

    def _begin_step(self) -> None:
        self._queue = deque((each, place) for place, unit in enumerate(self._passes) for each in self._units[unit])
        self._fetched_for: dict[int, int] = {}
        """The last pass that a weight was fetched for, or passed over since it was there."""
        self._available = 0
        """Elements."""
        self._begun = 0
        """Passes."""

    def _fetch_ahead(self) -> None:
        room = min(self._facts.max_live - self._available, self._facts.prefetch_bucket)
        ahead: list[int] = []
        while self._queue and sum(self._sizes[each] for each in ahead) < room:
            each, place = self._queue.popleft()
            self._fetched_for[each] = max(self._fetched_for.get(each, -1), place)
            if self._is_away(each) and each not in ahead:
                ahead.append(each)
        self._fetch(ahead)

    @property
    def _gathers_in_place(self) -> bool:
        return self._facts.one_pass and self._learnt

    def _is_away(self, each: int) -> bool:
        stays = self._sizes[each] <= self._facts.persistence_threshold
        return not stays and each not in self._here and each not in self._under_way

    def _is_used_soon(self, each: int, unit: int) -> bool:
        if self._fetched_for.get(each, -1) >= self._begun:
            return True
        return self._ahead[self._whole[unit]].distance(each, self._begun) < self._facts.max_reuse_distance

    def _fetch(self, parameters: list[int]) -> None:
        if not parameters:
            return
        self._available += sum(self._sizes[each] for each in parameters)
        if self._facts.ranks == 1 and not self._facts.offload_param:
            return  # they are where they are computed with
        self.fetched_elements += sum(self._sizes[each] for each in parameters)
        self.fetched_tensors += len(parameters)
        width = self._facts.weight_bytes
        if self._facts.ranks == 1 or len(parameters) == 1 or self._gathers_in_place:
            for each in parameters:
                self._here[each] = self._gpu.take(GATHERED, width * self._sizes[each], self._stream)
            return
        together = self._gpu.take(GATHERED, width * sum(self._sizes[each] for each in parameters), self._stream)
        self._under_way |= dict.fromkeys(parameters, (together, parameters))

    def _wait(self, each: int) -> None:
        """What several ranks gather together, where they do, is copied apart when the first of it is needed."""
        if each not in self._under_way:
            return
        together, parameters = self._under_way[each]
        for arrived in parameters:
            del self._under_way[arrived]
            size = self._facts.weight_bytes * self._sizes[arrived]
            self._here[arrived] = self._gpu.take(GATHERED, size, self._stream)
        self._gpu.give(together)

    def _release(self, each: int, *, saved: bool = False) -> None:
        tensor = self._here.pop(each)
        if saved:
            self._saved[each] = tensor
        elif self._stream:
            self._late.append((self._begun, tensor))
        else:
            self._gpu.give(tensor)
        self._available -= self._sizes[each]


def _last_and_saving(units: Units) -> tuple[set[int], set[int]]:
    """Passes that end last of a unit's, which are backward, and those in which autograd saves matrices for them.

    A block that is computed again stops before its end, and is whole when the pass backward ends: it saves none.
    """
    ends: dict[int, list[int]] = {}
    for kind, number in units.events:
        if kind == Kind.LEAVE:
            ends.setdefault(units.passes[number], []).append(number)
    begun = Counter(units.passes)
    whole = {unit: numbers for unit, numbers in ends.items() if len(numbers) == begun[unit]}
    return {numbers[-1] for numbers in whole.values()}, {numbers[-2] for numbers in whole.values() if numbers[1:]}
