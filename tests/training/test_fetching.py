"""How far ahead of a GPU weights are fetched at stage 3: real DeepSpeed, and a stream that is never done by itself."""

import pytest
import torch
from deepspeed.runtime.zero import partition_parameters

from harness.offloads import NARROW, new_engine, take_steps
from launcher.train.offload import fetching

LIVE = 12_000
"""Elements that may be gathered at once; a wide layer has 9,312."""


class Event:
    """Of work that goes on until somebody waits for it."""

    def __init__(self, waited: list) -> None:
        self.waited = waited

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        self.waited.append(self)


class Stream:
    def __init__(self) -> None:
        self.begun, self.waited = [], []

    def record_event(self) -> Event:
        self.begun.append(Event(self.waited))
        return self.begun[-1]


@pytest.fixture
def stream(monkeypatch) -> Stream:
    one = Stream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: one)
    return one


def engine_of(live: int):
    engine, module = new_engine(
        3, offload_param_device="cpu", stage3_max_live_parameters=live, stage3_param_persistence_threshold=0
    )
    return engine, module, engine._optimizer.parameter_offload.get_param_coordinator()


def test_what_is_released_counts_until_the_gpu_is_through_with_it(group, stream):
    engine, module, coordinator = engine_of(LIVE)
    fetching.fetch_in_order(coordinator)
    fetch, release = coordinator.fetch_sub_module, coordinator.release_sub_module
    gave, seen = [], []

    def gathered() -> int:
        return coordinator._PartitionedParameterCoordinator__n_available_params

    def fetched(submodule, forward):
        before = gathered()
        fetch(submodule, forward)
        seen.append((before, sum(gave[len(stream.waited) :])))

    def released(submodule, forward=False):
        before, begun = gathered(), len(stream.begun)
        release(submodule, forward)
        gave.extend([before - gathered()] * (len(stream.begun) - begun))

    coordinator.fetch_sub_module, coordinator.release_sub_module = fetched, released
    take_steps(group, engine, module, 3)
    assert all(given > 0 for given in gave)
    assert stream.waited == stream.begun[: len(stream.waited)], "the oldest first"
    assert all(pending == 0 or before + pending <= LIVE for before, pending in seen)
    assert max(pending for _, pending in seen) > LIVE / 2, "no sooner than it must"


def test_nobody_waits_for_what_there_is_room_for(group, stream):
    engine, module, coordinator = engine_of(10**9)
    fetching.fetch_in_order(coordinator)
    take_steps(group, engine, module, 3)
    assert stream.begun
    assert stream.waited == []


def test_it_trains_the_same(group, stream):
    plain, module, _ = engine_of(LIVE)
    expected = take_steps(group, plain, module, 3, accumulation=2)
    engine, module, coordinator = engine_of(LIVE)
    fetching.fetch_in_order(coordinator)
    assert take_steps(group, engine, module, 3, accumulation=2)["losses"] == expected["losses"]


def test_nobody_waits_for_a_copy_of_ones_own(group, stream, monkeypatch):
    engine, module, coordinator = engine_of(LIVE)
    fetching.fetch_in_order(coordinator)
    waited = []
    for name in ("NoGatherHandle", "NoGatherCoalescedHandle"):
        handle = getattr(partition_parameters, name)
        wait = handle.wait
        monkeypatch.setattr(handle, "wait", lambda self, wait=wait, **how: (waited.append(self), wait(self, **how)))
    engine(torch.randn(2, NARROW).bfloat16(), torch.ones((), dtype=torch.bfloat16))
    assert waited == []
    _, module, coordinator = engine_of(LIVE)  # DeepSpeed's own goes on as ever
    module(torch.randn(2, NARROW).bfloat16(), torch.ones((), dtype=torch.bfloat16))
    assert waited
