"""How far a phase is, and how long it will take."""

import pytest

from harness.recorder import Recorder
from launcher.train import report as reports


@pytest.fixture
def now(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(reports.time, "monotonic", lambda: clock[0])
    return clock


def test_the_time_left_follows_from_the_speed_so_far(now):
    told = Recorder()
    with told.phase("latents") as phase:
        for seconds, done in ((0, 1), (10, 11), (10.1, 12), (30, 21)):
            now[0] = 100.0 + seconds
            phase.progress(done, 101)
    progress = [event for event in told.named("phase") if event["state"] == "progress"]
    assert [(event["done"], event["seconds_left"]) for event in progress] == [(1, None), (11, 90.0), (21, 120.0)]


def test_a_phase_that_goes_on_from_where_it_was_counts_what_it_did_itself(now):
    told = Recorder()
    with told.phase("train") as phase:
        phase.progress(500, 1000)
        now[0] += 10
        phase.progress(510, 1000)
    assert told.named("phase")[2]["seconds_left"] == 490.0
