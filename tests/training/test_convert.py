"""DeepSpeed turned on or off, another ZeRO stage, more or fewer processes: 10 steps, ``convert`` and 10 more are 20.

So is the moving average of the weights.

Tolerances are those of the parity tests: every engine adds up the same fp32 gradients in another order. CI takes each
kind of change once, those of two processes with 8 steps in all; `make test-all` takes every place from every other.
"""

import itertools
import tempfile
from functools import cache

import pytest
import torch

from harness.conversions import PLACES, STEPS, Run, Trainer, job_of
from harness.ranks import run_ranks
from harness.small_engines import distance
from launcher.runs.converting import conversion
from launcher.train.convert import convert

FEWER = 8
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 2e-6, 1e-4

ONE_TO_ONE = list(itertools.product(PLACES, PLACES))
IN_CI = (("zero2-cpu", "plain"),)
"""A small module goes from every engine to others in test_universal."""
ON_TWO = ("plain", "zero2-cpu", "zero3-cpu")
"""Places on two processes."""
FROM_TWO = list(itertools.product(ON_TWO, ("plain", "zero2-cpu", "zero3-cpu", "zero3-nvme")))
TO_TWO = list(itertools.product(("plain", "zero2-cpu", "zero3-nvme"), ON_TWO))
FROM_TWO_IN_CI = (("zero3-cpu", "plain"),)
TO_TWO_IN_CI = (("zero2-cpu", "zero3-cpu"),)


def cases(pairs, in_ci):
    return [
        pytest.param(*pair, marks=[] if pair in in_ci else [pytest.mark.exhaustive], id="-to-".join(pair))
        for pair in pairs
    ]


@pytest.fixture(scope="module")
def trainer(group, model, dataset, async_io):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as swap:  # where memory may be aligned to anything
        yield Trainer(group, model, dataset, swap)


@pytest.fixture(scope="module")
def straight(trainer, model):
    """All steps at once, by their number, and how far they moved the weights."""

    @cache
    def train(steps: int) -> dict:
        told = trainer.train(Run("plain", steps))
        start = model.unet(torch.float32).state_dict()
        moved = distance(told["weights"], start)
        assert distance(told["average"], told["weights"]) > 0.01 * moved
        return {**told, "moved": moved}

    return train


@pytest.fixture(scope="module")
def halves(trainer, tmp_path_factory):
    """Converted checkpoints, by where they were trained and the step."""

    @cache
    def train(place: str, step: int) -> str:
        folder = tmp_path_factory.mktemp("half")
        trainer.train(Run(place, step, target=str(folder)))
        return converted(folder, step)

    return train


def converted(folder, step: int) -> str:
    return str(convert(conversion(folder / f"checkpoints/checkpoint-{step}", None), lambda done, total: None))


def assert_continues(told, straight, source: str, target: str) -> None:
    averaged = not any("nvme" in place for place in (source, target))  # what is swapped is not averaged
    half = len(straight["step"]) // 2
    assert told["step"] == straight["step"][half:]
    assert told["lr"] == pytest.approx(straight["lr"][half:], rel=1e-6)
    assert told["loss"] == pytest.approx(straight["loss"][half:], rel=LOSS_TOLERANCE)
    assert distance(told["weights"], straight["weights"]) < WEIGHT_TOLERANCE * straight["moved"]
    if averaged:
        assert distance(told["average"], straight["average"]) < WEIGHT_TOLERANCE * straight["moved"]


@pytest.mark.parametrize(("source", "target"), cases(ONE_TO_ONE, IN_CI))
def test_another_engine_continues(trainer, halves, straight, source, target):
    told = trainer.train(Run(target, STEPS, source=halves(source, STEPS // 2)))
    assert_continues(told, straight(STEPS), source, target)


@pytest.fixture(scope="module")
def on_two(assets, cache_dir, trainer, halves, tmp_path_factory):
    """What two processes made: half-way checkpoints by place, and continuations of one process's by pair."""

    @cache
    def train(whole: bool):
        folder = tmp_path_factory.mktemp("two")
        places = ON_TWO if whole else tuple(dict.fromkeys(place for place, _ in FROM_TWO_IN_CI))
        pairs, steps = (TO_TWO, STEPS) if whole else (TO_TWO_IN_CI, FEWER)
        runs = [Run(place, steps // 2, target=str(folder / place)) for place in places]
        runs += [
            Run(target, steps, source=halves(source, steps // 2), told=str(folder / f"{source}-{target}.pt"))
            for source, target in pairs
        ]
        job = job_of(
            runs,
            model=str(assets / "model"),
            pictures=str(assets / "pictures"),
            cache=str(cache_dir),
            swap=trainer.swap,
        )
        run_ranks("harness.conversions", job, folder, world_size=2)
        return folder, {place: converted(folder / place, steps // 2) for place in places}

    return train


@pytest.mark.parametrize(("source", "target"), cases(TO_TWO, TO_TWO_IN_CI))
def test_two_processes_continue_what_one_began(on_two, straight, source, target):
    whole = (source, target) not in TO_TWO_IN_CI
    folder, _ = on_two(whole)
    told = torch.load(folder / f"{source}-{target}.pt")
    assert_continues(told, straight(STEPS if whole else FEWER), source, target)


@pytest.mark.parametrize(("source", "target"), cases(FROM_TWO, FROM_TWO_IN_CI))
def test_one_process_continues_what_two_began(on_two, trainer, straight, source, target):
    whole = (source, target) not in FROM_TWO_IN_CI
    _, checkpoints = on_two(whole)
    steps = STEPS if whole else FEWER
    told = trainer.train(Run(target, steps, source=checkpoints[source]))
    assert_continues(told, straight(steps), source, target)
