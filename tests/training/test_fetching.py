"""Which weights are fetched at stage 3, and how far ahead of a GPU: real DeepSpeed, and streams that are never done."""

import json

import pytest
import torch

from harness.fetches import CASES, LIVE, engine_of, watched
from harness.offloads import take_steps
from harness.ranks import run_ranks
from launcher.train.offload import optimizers
from launcher.train.offload.fetching import PartitionedParameterCoordinator


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


ON_RANKS = {
    "as little as possible": {"again": True},
    "another order": {"again": True, "unused": [(3, 1)], **CASES["kept and ahead"]},
    **{name: {"again": False, **CASES[name]} for name in ("small ones stay", "on the device")},
    "fetched whole": {"again": True, **CASES["fetched whole"]},
}
RANKS = 3
"""Among which the smallest weights cannot be shared out evenly."""


@pytest.fixture(scope="module")
def of_ranks(extensions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fetches")
    run_ranks("harness.many_fetches", ON_RANKS, folder, RANKS)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]


@pytest.mark.parametrize("name", ON_RANKS)
def test_of_several_ranks_as_well(name, of_ranks):
    seen = []
    for told in of_ranks:
        (mine, _), (theirs, _) = told[name]
        assert mine == theirs
        seen.append(mine[-1])
    assert seen == [seen[0]] * RANKS
    assert any(here for _, *_, here, _ in seen[0])


def test_what_stays_is_gathered_together_after_an_update(of_ranks):
    for told in of_ranks:
        (_, mine), (_, theirs) = told["small ones stay"]
        assert theirs > mine == 0


class Event:
    """Of work that goes on until somebody waits for it."""

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        raise NotImplementedError

    def wait(self) -> None:
        raise NotImplementedError


class Stream:
    """Stands for the one that computes and the one that copies."""

    def __init__(self) -> None:
        self.begun, self.waited, self.computing_waits = [], [], []

    def record_event(self) -> Event:
        event = Event()
        event.synchronize = lambda: self.waited.append(event)
        event.wait = lambda: self.computing_waits.append(event)
        self.begun.append(event)
        return event


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
    fetch, bring, arrivals, ahead = coordinator.fetch_sub_module, coordinator._bring, {}, []

    def brought(params):
        given, begun = list(params), len(stream.begun)
        bring(given)
        arrivals.update(dict.fromkeys(given, (stream.begun[begun:] or [None])[0]))

    def fetched(submodule, forward):
        waits, known = len(stream.computing_waits), dict(arrivals)
        fetch(submodule, forward)
        own = {arrivals[param] for param in coordinator._params_of(submodule) if param in arrivals}
        assert set(stream.computing_waits[waits:]) <= own <= set(stream.computing_waits)
        ahead.extend(set(known.values()) - set(stream.computing_waits))

    coordinator._bring, coordinator.fetch_sub_module = brought, fetched
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
    "zero",
    [
        {"zero_quantized_weights": True},
        {"stage3_module_granularity_threshold": 10},
        {"stage3_allgather_sequential": True},
        {"zero_hpz_partition_size": 2},
        {"mics_shard_size": 2},
    ],
    ids=["packed", "by size", "one by one", "in groups", "in groups of another kind"],
)
def test_what_it_does_not_know_is_deepspeeds(group, zero):
    assert optimizers._coordinator(zero) is not PartitionedParameterCoordinator
    assert optimizers._coordinator({}) is PartitionedParameterCoordinator
