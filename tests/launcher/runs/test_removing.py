"""Removing a run's directory: what is the run's goes, links lead nowhere, and what still goes on is left alone."""

import json
import time

import psutil
import pytest

from harness.runs import end_run, stand_in_run, supervisor, wait_for, wait_until_over
from launcher.errors import InvalidInputError, RefusedToOverwriteError
from launcher.runs.directory import RunDirectory, create
from launcher.runs.index import index_path, known_runs, register
from launcher.runs.removing import removal, remove_run
from launcher.runs.spawn import launch
from launcher.runs.state import Status, statuses


@pytest.fixture(autouse=True)
def index(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def ended(path, result: str = "failed", heartbeat: float = 0.0, **plan: str) -> RunDirectory:
    """A run that is over, with a checkpoint of 3 MiB, and known by its name."""
    state = {"phase": "ended", "started": 1.8e9, "heartbeat": heartbeat, "result": result or None}
    files = {
        "plan.json": json.dumps(plan).encode(),
        "state.json": json.dumps(state).encode(),
        "train.log": b"x" * 2**20,
    }
    run = create(path, files)
    (run.path / "checkpoints/checkpoint-7").mkdir(parents=True)
    (run.path / "checkpoints/checkpoint-7/optimizer.bin").write_bytes(b"0" * 3 * 2**20)
    register(run)
    return run


def test_a_run_that_is_over_is_removed_whole_and_forgotten(tmp_path):
    kept, run = ended(tmp_path / "kept"), ended(tmp_path / "run")
    (run.path / ".state.json.k3j2").touch()  # a write that was cut off
    (run.path / "machine-1").mkdir()
    planned = removal(run)
    assert (planned.checkpoints, round(planned.mib), planned.stays) == (("checkpoint-7",), 4, ())
    remove_run(run)
    assert not run.path.exists()
    assert known_runs() == [kept]
    assert str(run.path) not in index_path().read_text()


def test_what_links_lead_to_stays(tmp_path):
    for place in ("disk/checkpoint-9", "pictures"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "own").write_bytes(b"0" * 2**20)
    run = ended(tmp_path / "run")
    (run.path / "samples").symlink_to(tmp_path / "pictures")
    (run.path / "checkpoints/checkpoint-9").symlink_to(tmp_path / "disk/checkpoint-9")
    planned = removal(run)
    assert round(planned.mib) == 4, "what links lead to is not counted"
    assert planned.elsewhere == (tmp_path / "pictures",)
    remove_run(run)
    assert not run.path.exists()
    assert [(tmp_path / place / "own").exists() for place in ("disk/checkpoint-9", "pictures")] == [True, True]


def test_a_link_to_a_run_is_no_run(tmp_path):
    run = ended(tmp_path / "run")
    (tmp_path / "link").symlink_to(run.path)
    with pytest.raises(InvalidInputError, match="no run directory"):
        remove_run(RunDirectory(tmp_path / "link"))
    with pytest.raises(InvalidInputError, match="no run directory"):
        remove_run(RunDirectory(tmp_path / "pictures"))
    assert run.plan_json.exists()


def test_what_somebody_else_put_there_stays_with_its_folder(tmp_path):
    """A run may have been made in a folder of somebody's pictures."""
    run = ended(tmp_path / "cats")
    (run.path / "cat.png").touch()
    assert removal(run).stays == (run.path / "cat.png",)
    remove_run(run)
    assert [path.name for path in run.path.iterdir()] == ["cat.png"]
    assert known_runs() == []


def test_an_output_folder_elsewhere_is_named_and_stays(tmp_path):
    run = ended(tmp_path / "run")
    output = tmp_path / "large-disk"
    (output / "checkpoints/checkpoint-7").mkdir(parents=True)
    run.training_json.write_text(
        json.dumps(
            {"pretrained_model_name_or_path": "m", "instance_data_dir": "p", "output_dir": str(output)},
        )
    )
    assert removal(run).elsewhere == (output,)
    remove_run(run)
    assert (output / "checkpoints/checkpoint-7").exists()


def test_a_run_that_goes_on_is_refused_until_it_is_over(tmp_path):
    run = stand_in_run(tmp_path / "run", "long")
    try:
        launch(run)
        assert known_runs() == [run]
        with pytest.raises(RefusedToOverwriteError, match="run goes on; end it with `simpletuner-tui stop run` first"):
            remove_run(run)
        assert run.plan_json.exists()
    finally:
        end_run(run)
    # Killed, as when another machine's lock is not seen: until its heartbeat is old it may live there.
    with pytest.raises(RefusedToOverwriteError, match="was alive"):
        remove_run(run)
    state = json.loads(run.state_json.read_text())
    run.state_json.write_text(json.dumps({**state, "heartbeat": time.time() - 61}))
    remove_run(run)
    assert not run.path.exists()


def test_a_run_is_refused_while_its_training_outlives_its_supervisor(tmp_path):
    run = stand_in_run(tmp_path / "run", "long with child")
    other = ended(tmp_path / "other", result="")
    try:
        launch(run)
        wait_for((run.path / "child").exists)
        psutil.Process(supervisor(run)).kill()
        lost = wait_for(lambda: (now := statuses([other, run]))[1].orphans and now)
        assert [each.status for each in lost] == [Status.LOST, Status.LOST]
        assert lost[0].orphans == ()
        with pytest.raises(RefusedToOverwriteError, match="goes on"):
            remove_run(run)
    finally:
        end_run(run)


def test_a_part_of_a_run_goes_with_it_or_not_at_all(tmp_path):
    run = ended(tmp_path / "run")
    part = ended(run.path / "machine-1", heartbeat=time.time(), result="", trains=str(run.path))
    for each in (run, part):
        with pytest.raises(RefusedToOverwriteError, match="run/machine-1 was alive"):
            remove_run(each)


def test_a_run_is_removed_once(tmp_path):
    run = ended(tmp_path / "run")
    remove_run(run)
    with pytest.raises(InvalidInputError, match="no run directory"):
        remove_run(run)


def test_a_completed_run_is_removed_at_once(tmp_path):
    run = stand_in_run(tmp_path / "run", "short")
    launch(run)
    assert wait_until_over(run).status is Status.COMPLETED
    remove_run(run)
    assert not run.path.exists()
