"""The moving average: diffusers' EMAModel over the whole masters of every step, wherever parts of them lie.

Both add up the same fp32 numbers in another order, which differs in the last bits: 2e-7 of the largest weight is
allowed, where the average and the masters are a thousand times as far apart.
"""

import threading
from functools import cache

import pytest
import torch
from diffusers.training_utils import EMAModel

from harness.many_averages import averaged
from harness.ranks import run_ranks
from harness.tiny_zero import TINY
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.training import EmaSettings
from launcher.errors import InvalidInputError
from launcher.runs.checkpoints import Checkpoint, Identity
from launcher.runs.marker import MARKER
from launcher.train import ema
from launcher.train.checkpoint import Checkpoints
from launcher.train.ema import MovingAverage, decay_at

DECAY = 0.3
"""Reached at the fourth update."""
PLACES = {
    "plain-fp32": {"stage": 0, "precision": "no"},
    "plain-bf16": {"stage": 0, "gradient_accumulation_steps": 2},
    "zero0-fp32": {"stage": 0, "precision": "no"},
    "zero0-bf16": {"stage": 0},
    "zero1-bf16": {"stage": 1, "gradient_accumulation_steps": 2},
    "zero2-cpu": {"stage": 2, "offload_optimizer_device": "cpu"},
    "zero2-fp32": {"stage": 2, "precision": "no"},
    "zero3-bf16": {"stage": 3},
    "zero3-cpu-params": {"stage": 3, "offload_optimizer_device": "cpu", "offload_param_device": "cpu"},
    "zero1-in-fp32": {"stage": 1, "extra": {"data_types": {"grad_accum_dtype": "fp32"}}},
}
ON_TWO = ("plain-bf16", "zero0-bf16", "zero1-bf16", "zero2-cpu", "zero3-bf16", "zero3-cpu-params")
IN_CI = ((1, "plain-bf16"), (1, "zero0-bf16"), (1, "zero3-cpu-params"))
"""Two ranks at stage 2 are in test_two_ranks."""
CASES = [
    pytest.param(*pair, marks=[] if pair in IN_CI else [pytest.mark.exhaustive])
    for pair in [(1, name) for name in PLACES] + [(2, name) for name in ON_TWO]
]


def case(name: str, world_size: int) -> dict:
    place = {"offload_optimizer_device": "none", "precision": "bf16", "gradient_accumulation_steps": 1, **PLACES[name]}
    config = to_deepspeed_json(
        DeepSpeedSettings(**{**TINY, **place}),
        train_batch_size=2 // world_size,
        learning_rate=1e-3,
        warmup_steps=1,
        total_steps=5,
    )
    interval = 2 if name == "zero2-fp32" else 1
    return {
        "plain": name.startswith("plain"),
        "precision": place["precision"],
        "interval": interval,
        "config": config,
    }


@pytest.fixture(scope="session")
def of_two_ranks(assets, cache_dir, dataset, tmp_path_factory):
    @cache
    def train(in_ci: bool):
        folder = tmp_path_factory.mktemp("averages")
        job = {
            "model": str(assets / "model"),
            "pictures": str(assets / "pictures"),
            "cache": str(cache_dir),
            "resolution": 32,
            "decay": DECAY,
            "cases": {name: case(name, 2) for name in ON_TWO if ((2, name) in IN_CI) is in_ci},
        }
        run_ranks("harness.many_averages", job, folder, world_size=2, seconds=540)
        return folder

    return train


@pytest.fixture
def as_late_as_may_be(monkeypatch):
    """An update begins when it is waited for: a loop that waits too late, or never, takes in masters of later steps."""
    waited_for = threading.Event()
    take_in, wait = ema._take_in, MovingAverage.wait

    def late(*args):
        waited_for.wait()
        waited_for.clear()
        take_in(*args)

    def wait_now(self):
        waited_for.set()
        wait(self)
        waited_for.clear()

    monkeypatch.setattr(ema, "_take_in", late)
    monkeypatch.setattr(MovingAverage, "wait", wait_now)


@pytest.mark.parametrize(("world_size", "name"), CASES)
def test_the_average_is_that_of_the_whole_masters_and_resumes_to_the_bit(
    world_size, name, group, model, dataset, tmp_path, request
):
    if world_size == 1:
        request.getfixturevalue("as_late_as_may_be")
        found = averaged(name, case(name, 1), group, model, dataset, DECAY, tmp_path)
    else:
        folder = request.getfixturevalue("of_two_ranks")((2, name) in IN_CI)
        found = torch.load(folder / f"{name}.pt")
    average, expected, before = (torch.cat([t.flatten() for t in found[k]]) for k in ("average", "expected", "before"))
    assert float((average - expected).abs().max()) < 2e-7 * float(expected.abs().max())
    assert float((average - before).abs().max()) > 1e-4
    assert all(torch.equal(one, other) for one, other in zip(found["before"], found["after"], strict=True))
    assert all(torch.equal(one, other) for one, other in zip(found["average"], found["again"], strict=True))
    assert found["warnings"] == []


@pytest.mark.parametrize("highest", [0.0, 0.6, 0.9999, 1.0])
def test_the_decay_is_that_of_diffusers(highest):
    theirs = EMAModel([], decay=highest)
    for update in [*range(1, 60), 10_000, 1_000_000]:
        assert decay_at(update, highest) == theirs.get_decay(update)


class Masters:
    """An engine of two masters that are numbers."""

    torch_adam = True

    def __init__(self, *values: float) -> None:
        self.weights = [torch.full((3, 2), value) for value in values]

    def master_partitions(self):
        return self.weights

    def save(self, folder):
        torch.save(self.weights, folder / "engine.pt")

    def step(self) -> None:
        torch._foreach_add_(self.weights, 1)


def new_average(engine, world, **settings) -> MovingAverage:
    return MovingAverage(engine, EmaSettings(use_ema=True, **settings), world)


def value(average) -> float:
    with average.exchanged():
        return float(average._engine.weights[0][0, 0])


def test_an_update_does_not_wait_until_it_is_done(alone, as_late_as_may_be):
    engine = Masters(1.0, 2.0)
    average = new_average(engine, alone, ema_decay=0.5)
    average.update(1)  # returns, although it is done only when it is waited for
    average.wait()
    engine.step()
    average.update(2)
    assert value(average) == pytest.approx(2 - 2 / 11)


def test_a_failure_in_the_background_is_raised_where_it_is_waited_for(alone, monkeypatch):
    average = new_average(Masters(1.0), alone)
    monkeypatch.setattr(ema, "_take_in", lambda *_: (_ for _ in ()).throw(MemoryError("no more")))
    average.update(1)
    with pytest.raises(MemoryError, match="no more"):
        average.wait()


def test_it_is_updated_every_so_many_steps(alone):
    engine = Masters(0.0)
    average = new_average(engine, alone, ema_update_interval=3)
    for step in range(1, 6):
        average.wait()
        engine.step()
        average.update(step)
    assert value(average) == 3.0  # the first update takes all, the second is due at step 6


@pytest.fixture
def checkpoints(alone, report, tmp_path):
    here = Identity(None, "no", "AdamW", 1, "model", 32, 0, 1, 1)
    return Checkpoints(tmp_path, 2, here, alone, report)


def test_a_checkpoint_without_its_average_is_not_whole(checkpoints, alone, report):
    engine = Masters(1.0)
    average = new_average(engine, alone)
    path = checkpoints.save(engine, 7, average=average)
    assert "ema-rank-0.pt" in (path / MARKER).read_text()
    assert checkpoints.find().step == 7
    (path / "ema-rank-0.pt").unlink()
    with pytest.raises(InvalidInputError, match=r"ema-rank-0\.pt is missing"):  # and nothing begins anew over it
        checkpoints.find()
    assert "ema-rank-0.pt is missing" in report.warnings[-1]
    older = checkpoints.save(engine, 6, average=average)
    assert checkpoints.find().path == older


def test_where_run_and_checkpoint_differ_about_it_the_person_is_told(checkpoints, alone, report):
    engine = Masters(1.0)
    settings = EmaSettings(use_ema=True)
    assert ema.begin(engine, settings, alone, None, report) is not None
    assert report.warnings == []
    without = Checkpoint(checkpoints.save(engine, 1), 1, {})
    ema.begin(engine, settings, alone, without, report)
    assert report.warnings[-1] == f"{without.path} has no moving average: it begins with the weights of this checkpoint"
    kept = Checkpoint(checkpoints.save(engine, 2, average=new_average(engine, alone)), 2, {})
    assert ema.begin(engine, EmaSettings(), alone, kept, report) is None
    assert "ends here: training.use_ema is off" in report.warnings[-1]
    with pytest.raises(InvalidInputError, match="divided otherwise"):
        ema.begin(Masters(1.0, 2.0), settings, alone, kept, report)
