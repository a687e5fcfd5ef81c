"""Which weights are fetched at stage 3, and how far ahead of a GPU: real DeepSpeed, and streams that are never done."""

import contextlib
from unittest.mock import patch

import pytest
import torch
from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
from torch.utils.checkpoint import checkpoint

from harness import offloads
from harness.offloads import NARROW, WIDE, new_engine, take_steps
from launcher.train.offload import optimizers
from launcher.train.offload.fetching import PartitionedParameterCoordinator

LIVE = 12_000
"""Elements that may be gathered at once; a wide layer has 9,312."""
SMALL = {
    "offload_param_device": "cpu",
    "stage3_max_live_parameters": LIVE,
    "stage3_param_persistence_threshold": 0,
}


class Blocks(offloads.Uneven):
    """Some of its layers are of two."""

    def __init__(self, frozen: bool) -> None:
        super().__init__(frozen)
        self.always = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Linear(WIDE, WIDE).requires_grad_(not frozen), second)
            for second in self.always
        )


def engine_of(*, deepspeeds: bool = False, frozen: bool = False, **settings):
    """An engine with our coordinator, or with DeepSpeed's in the same optimizer."""
    theirs = patch.object(
        optimizers, "_coordinator", lambda zero: optimizers.parameter_offload.PartitionedParameterCoordinator
    )
    with patch.object(offloads, "Uneven", Blocks), theirs if deepspeeds else contextlib.nullcontext():
        engine, module = new_engine(3, frozen=frozen, **SMALL | settings)
    coordinator = engine._optimizer.parameter_offload.get_param_coordinator()
    assert isinstance(coordinator, PartitionedParameterCoordinator) is not deepspeeds
    return engine, module, coordinator


CASES = {
    "as little as possible": {},
    "ahead": {"stage3_prefetch_bucket_size": 10_000, "stage3_max_live_parameters": 30_000},
    "all ahead": {"stage3_prefetch_bucket_size": 10**9, "stage3_max_live_parameters": 10**9},
    "kept for what comes soon": {"stage3_max_reuse_distance": 20_000},
    "kept and ahead": {"stage3_max_reuse_distance": 20_000, "stage3_prefetch_bucket_size": 10_000},
    "small ones stay": {"stage3_param_persistence_threshold": 100},
    "on the device": {"offload_param_device": "none"},
    "frozen layers": {"frozen": True},
    "frozen layers, fetched whole": {
        "frozen": True,
        "overrides": {"zero_optimization": {"leaf_module": {"classes": ["Sequential"]}}},
    },
    "fetched whole": {"overrides": {"zero_optimization": {"leaf_module": {"classes": ["Sequential"]}}}},
}


def watched(group, *, again: bool, unused=(), **settings):
    """What a few steps tell, and which weights are there or on their way after each fetch and release."""
    engine, module, coordinator = engine_of(**settings)
    if again:
        for layer in (module.sometimes, *module.always):
            computed = layer.forward
            layer.forward = lambda given, computed=computed: checkpoint(computed, given, use_reentrant=False)
    seen = []
    for name in ("fetch_sub_module", "release_sub_module", "release_and_reset_all"):
        did = getattr(coordinator, name)

        def doing(given, *, did=did, name=name, **how):
            did(given, **how)
            here = [
                each for each, param in module.named_parameters() if param.ds_status != ZeroParamStatus.NOT_AVAILABLE
            ]
            seen.append(
                (
                    name,
                    type(given).__name__,
                    *how.values(),
                    here,
                    coordinator._PartitionedParameterCoordinator__n_available_params,
                )
            )

        setattr(coordinator, name, doing)
    try:
        told = take_steps(group, engine, module, 5, accumulation=2, unused=unused)
    except RuntimeError as error:  # where DeepSpeed's own misses weights, with part of a block frozen
        return str(error), seen
    with torch.no_grad():  # as when a loss is evaluated
        engine(torch.ones(2, NARROW).bfloat16(), torch.ones((), dtype=torch.bfloat16))
    more = take_steps(group, engine, module, 4, first=5, accumulation=2)
    return told["losses"] + more["losses"], told["norms"] + more["norms"], seen


@pytest.mark.parametrize("again", [False, True], ids=["", "computed again"])
@pytest.mark.parametrize("unused", [(), [(3, 1)]], ids=["", "another order"])
@pytest.mark.parametrize("name", CASES)
def test_the_same_weights_are_fetched_and_released_as_by_deepspeeds_own(group, name, unused, again):
    mine, theirs = (
        watched(group, again=again, unused=unused, deepspeeds=each, **CASES[name]) for each in (False, True)
    )
    assert mine == theirs
    assert isinstance(mine[0], str) is ((name, unused) == ("frozen layers, fetched whole", [(3, 1)]))
    assert any(here for _, *_, here, _ in mine[-1])


class Event:
    """Of work that goes on until somebody waits for it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        raise NotImplementedError


class Stream:
    """Stands for the one that computes and the one that copies."""

    def __init__(self) -> None:
        self.begun, self.waited, self.computing_waits = [], [], []

    def record_event(self) -> Event:
        event = Event(len(self.begun))
        event.synchronize = lambda: self.waited.append(event)
        self.begun.append(event)
        return event

    def wait_event(self, event: Event) -> None:
        self.computing_waits.append(event)


@pytest.fixture
def stream(monkeypatch) -> Stream:
    one = Stream()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: one)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, of: None)
    return one


def on_a_gpu(**settings):
    engine, module, coordinator = engine_of(**settings)
    coordinator._on_gpu = True
    return engine, module, coordinator


def test_what_is_released_counts_until_the_gpu_is_through_with_it(group, stream):
    engine, module, coordinator = on_a_gpu()
    fetch = coordinator.fetch_sub_module
    gave, seen = {}, []
    release = coordinator.release_sub_module

    def gathered() -> int:
        return coordinator._PartitionedParameterCoordinator__n_available_params

    def fetched(submodule, forward):
        before = gathered()
        fetch(submodule, forward)
        seen.append((before, sum(gave[event] for event in gave if event not in stream.waited)))

    def released(submodule, forward=False):
        before, begun = gathered(), len(stream.begun)
        release(submodule, forward)
        gave.update(dict.fromkeys(stream.begun[begun:], before - gathered()))

    coordinator.fetch_sub_module, coordinator.release_sub_module = fetched, released
    take_steps(group, engine, module, 4)
    assert all(given > 0 for given in gave.values())
    assert stream.waited == list(gave)[: len(stream.waited)], "the oldest first, and no copy"
    assert all(pending == 0 or before + pending <= LIVE for before, pending in seen)
    assert max(pending for _, pending in seen) > LIVE / 2, "no sooner than it must"


def test_nobody_waits_for_what_there_is_room_for(group, stream):
    engine, module, _ = on_a_gpu(stage3_max_live_parameters=10**9)
    take_steps(group, engine, module, 4)
    assert stream.begun
    assert stream.waited == []


def test_computing_waits_for_the_copies_of_its_own_weights_alone(group, stream):
    engine, module, coordinator = on_a_gpu(stage3_prefetch_bucket_size=10_000, stage3_max_live_parameters=30_000)
    take_steps(group, engine, module, 3)
    fetch, by_weight, ahead = coordinator.fetch_sub_module, {}, []
    copy = coordinator._copy

    def copied(params):
        given, begun = list(params), len(stream.begun)
        copy(given)
        by_weight.update(dict.fromkeys(given, (stream.begun[begun:] or [None])[0]))

    def fetched(submodule, forward):
        waits, known = len(stream.computing_waits), dict(by_weight)
        fetch(submodule, forward)
        own = [by_weight[param] for param in coordinator._params_of(submodule) if param in by_weight]
        for event in stream.computing_waits[waits:]:
            assert event is max(own, key=lambda one: one.number)
        waited = max((event.number for event in stream.computing_waits), default=-1)
        assert all(event.number <= waited for event in own)
        ahead.extend(event for event in known.values() if event.number > waited)

    coordinator._copy, coordinator.fetch_sub_module = copied, fetched
    take_steps(group, engine, module, 2, first=3)
    assert stream.computing_waits
    assert ahead, "some were on their way that nothing waited for"


def test_it_trains_the_same(group, stream):
    plain, module, _ = engine_of(deepspeeds=True)
    expected = take_steps(group, plain, module, 4, accumulation=2)
    engine, module, _ = on_a_gpu()
    assert take_steps(group, engine, module, 4, accumulation=2)["losses"] == expected["losses"]


def test_a_module_that_does_not_come_next_is_refused(group):
    engine, module, coordinator = engine_of()
    take_steps(group, engine, module, 3)
    coordinator.reset_step()
    with pytest.raises(RuntimeError, match="step 0 of the trace"):
        coordinator.fetch_sub_module(module.last, forward=True)


@pytest.mark.parametrize(
    "zero", [{"zero_quantized_weights": True}, {"stage3_module_granularity_threshold": 10}], ids=["packed", "by size"]
)
def test_what_it_does_not_know_is_deepspeeds(group, zero):
    assert optimizers._coordinator(zero) is not PartitionedParameterCoordinator
    assert optimizers._coordinator({}) is PartitionedParameterCoordinator
