"""The thread that looks at the machine: what it keeps, what it says of a look that fails or hangs."""

import threading
from itertools import count

import pytest

from harness.runs import wait_for
from harness.samples import machine_sample
from launcher.machine.sampler import Sampler


@pytest.fixture
def made():
    """Samplers that end with the test."""
    samplers = []

    def make(read, **options) -> Sampler:
        samplers.append(Sampler(read, **options))
        return samplers[-1]

    yield make
    for sampler in samplers:
        sampler.stop()


def test_it_looks_again_and_again(made):
    numbers, given = count(), []
    sampler = made(lambda: machine_sample(next(numbers)), interval=0.01, then=given.append)
    assert sampler.latest is None and sampler.recent == ()
    sampler.start()
    wait_for(lambda: len(sampler.recent) > 3)
    sampler.stop()
    assert [sample.time for sample in sampler.recent[:4]] == [0, 1, 2, 3]
    assert given == list(sampler.recent)
    after = sampler.latest
    threading.Event().wait(0.05)
    assert sampler.latest is after


def test_the_last_two_minutes_are_kept(made):
    numbers = count()
    sampler = made(lambda: machine_sample(next(numbers)))
    for _ in range(500):
        sampler.look()
    assert [sample.time for sample in sampler.recent] == list(range(380, 500))
    slow = made(lambda: machine_sample(0.0), interval=5.0)
    for _ in range(50):
        slow.look()
    assert len(slow.recent) == 24


def test_a_driver_that_hangs_holds_nobody_up_and_shows_its_age(made):
    now, hangs, gate = [0.0], threading.Event(), threading.Event()

    def read():
        if hangs.is_set():
            gate.wait(60)
        return machine_sample(now[0])

    sampler = made(read, interval=0.01, clock=lambda: now[0])
    sampler.look()
    assert sampler.age == 0
    hangs.set()
    sampler.start()
    now[0] = 40.0
    assert sampler.latest.time == 0 and sampler.age == 40
    sampler.stop()  # does not wait for the driver
    gate.set()


def test_before_the_first_sample_the_age_counts_from_the_beginning(made):
    now = [5.0]
    sampler = made(lambda: machine_sample(0), clock=lambda: now[0])
    now[0] = 12.0
    assert (sampler.latest, sampler.age) == (None, 7.0)


def test_a_look_that_fails_says_why_and_the_next_may_do_better(made):
    answers = [machine_sample(0), OSError("no space"), machine_sample(2)]

    def read():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    sampler = made(read)
    sampler.look()
    sampler.look()
    assert (sampler.fault, sampler.latest.time) == ("OSError: no space", 0)
    sampler.look()
    assert (sampler.fault, sampler.latest.time) == ("", 2)


def test_whoever_goes_through_what_is_kept_is_not_disturbed(made):
    numbers = count()
    sampler = made(lambda: machine_sample(next(numbers)))
    sampler.look()
    held = sampler.recent
    sampler.look()
    assert [sample.time for sample in held] == [0]
