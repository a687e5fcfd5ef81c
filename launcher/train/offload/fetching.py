"""Weights at stage 3 come as far ahead of the GPU as it computes, and the host waits for nothing else.

Source: ``partitioned_param_coordinator.py`` and ``partition_parameters.py`` of DeepSpeed 0.19.8. There the host waits
until a module's weights are on the GPU before it starts that module's kernels, though streams keep that order by
themselves; and it never waits for kernels. What a module releases is free once they are done, so that on a card that
computes slower than weights come the weights of many modules lie there at once, whatever
``stage3_max_live_parameters`` says.
"""

import sys
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import torch
from deepspeed.runtime.zero.partition_parameters import NoGatherCoalescedHandle, NoGatherHandle, ZeroParamStatus
from deepspeed.runtime.zero.partitioned_param_coordinator import InflightParamRegistry

_COORDINATOR = "_PartitionedParameterCoordinator__"
"""Before the names of its private attributes, as Python stores them."""


class Fetched:
    """A weight of one process on its way to the GPU; stands for DeepSpeed's handle."""

    def __init__(self, param: Any) -> None:
        """Notes it.

        Args:
            param: whose copy is in the queue of a stream.
        """
        self._param = param

    def wait(self, **_: Any) -> None:
        """Says that it is there: DeepSpeed has the stream that computes wait for the one that copies."""
        self._param.ds_status = ZeroParamStatus.AVAILABLE


class _InFlight(InflightParamRegistry):  # type: ignore[misc]
    """Weights that are on their way, by parameter; what ranks exchange is waited for as ever."""

    def __setitem__(self, param: Any, handle: Any) -> None:
        alone = isinstance(handle, NoGatherHandle | NoGatherCoalescedHandle)
        super().__setitem__(param, Fetched(param) if alone else handle)


def fetch_in_order(coordinator: Any) -> None:
    """From here on the host waits for the computing alone, on GPUs.

    Args:
        coordinator: DeepSpeed's, of the engine that trains.
    """
    setattr(coordinator, f"{_COORDINATOR}inflight_param_registry", _InFlight())
    setattr(coordinator, f"{_COORDINATOR}max_ongoing_fetch_events", sys.maxsize)
    pending = _Pending(coordinator)
    fetch, release = coordinator.fetch_sub_module, coordinator.release_sub_module

    def fetched(module: torch.nn.Module, forward: bool) -> None:
        pending.wait()
        fetch(module, forward)

    def released(module: torch.nn.Module, forward: bool = False) -> None:
        before = pending.gathered
        release(module, forward)
        pending.add(before - pending.gathered)

    # As DeepSpeed's own are: a compiled U-Net leaves its graph for them.
    coordinator.fetch_sub_module = torch.compiler.disable(fetched)  # type: ignore[no-untyped-call]
    coordinator.release_sub_module = torch.compiler.disable(released)  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class _Pending:
    """Weights that were released and whose kernels the GPU may not be through with."""

    coordinator: Any
    events: deque[tuple[Any, int]] = field(default_factory=deque)
    """In the order of the stream that computes, with how many elements each is of."""
    elements: int = 0

    @property
    def gathered(self) -> int:
        """Elements on the GPU as DeepSpeed counts them, which leaves out what was released."""
        return int(getattr(self.coordinator, f"{_COORDINATOR}n_available_params"))

    def add(self, elements: int) -> None:
        """So many were released now."""
        if elements > 0:
            self.events.append((torch.cuda.current_stream().record_event(), elements))
            self.elements += elements

    def wait(self) -> None:
        """Until they and what is gathered are no more than may be."""
        most = getattr(self.coordinator, f"{_COORDINATOR}max_n_available_params")
        while self.events and (self.elements + self.gathered > most or self.events[0][0].query()):
            event, elements = self.events.popleft()
            event.synchronize()
            self.elements -= elements
