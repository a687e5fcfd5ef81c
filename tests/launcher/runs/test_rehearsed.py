"""What a rehearsal measured, read from its events: peaks over ranks and steps, the whole run, what is not known."""

import json

import pytest

from launcher.config.training import TrainingSettings
from launcher.runs.directory import RunDirectory, create
from launcher.runs.events import EventLog
from launcher.runs.rehearsal import write_sample
from launcher.runs.rehearsed import Figures, read_rehearsed

PHASES = {
    "caching": (9_000, 10_400),
    "init": (15_000, 16_500),
    "step": (14_000, 15_400),
    "validation": (18_000, 19_400),
}
ESTIMATE = {
    "gpu": [{"name": name, "reserved_mib": torch, "process_mib": all_} for name, (torch, all_) in PHASES.items()],
    "host_mib": 60_000,
    "step_seconds": 2.5,
}


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    rehearsal = {"steps": 2, "checkpoint_mib": 1024, "saves_here": True}
    plan = json.dumps({"estimate": ESTIMATE, "rehearsal": rehearsal}).encode()
    training = json.dumps({**TrainingSettings().to_json(), **NAMED}).encode()
    return create(tmp_path / ".rehearsal-a", {"plan.json": plan, "training.json": training})


NAMED = {"pretrained_model_name_or_path": "m", "instance_data_dir": "/p", "checkpointing_steps": 300}


def step(run: RunDirectory, number: int, seconds: float, peaks: list[dict[str, int]], **more) -> None:
    told = {"loss": 1 / number, "skipped": False, "rss_mib": 60_000 + number, **more}
    parts = {"data": 0.0, "forward": 0.4, "total": seconds}
    EventLog(run.events_jsonl).emit("step", step=number, seconds=parts, vram_mib=peaks, **told)


def test_before_a_step_nothing_is_known(run):
    rehearsed = read_rehearsed(run)
    assert rehearsed.measured == Figures(None, None, None, None)
    assert (rehearsed.whole_run, rehearsed.finite) == (None, None)


def test_peaks_are_of_the_rank_that_holds_most_and_the_last_step_is_as_all_others(run):
    step(run, 1, 9.0, [{"peak": 14_000}, {"peak": 15_500}])
    step(run, 2, 2.0, [{"peak": 14_000}, {"peak": 15_200}])
    rehearsed = read_rehearsed(run)
    assert rehearsed.measured == Figures(15_500, None, 60_002, 2.0)
    assert rehearsed.predicted == Figures(15_000, 16_500, 60_000, 2.5), "pictures are not rehearsed"
    assert (rehearsed.losses, rehearsed.finite) == ((1.0, 0.5), True)
    assert rehearsed.seconds == {"data": 0.0, "forward": 0.4}


def test_where_the_driver_is_asked_too_its_figure_is_there(run):
    step(run, 1, 9.0, [{"peak": 15_500, "process": 16_900}])
    assert read_rehearsed(run).measured.gpu_process_mib == 16_900


def test_once_it_has_ended_the_peaks_of_its_start_count_too(run):
    step(run, 1, 9.0, [{"peak": 15_500, "process": 16_900}])
    phases = {"init": {"allocated": 1, "reserved": 17_000, "process": 18_400}, "step": {"reserved": 1, "process": 0}}
    host = [{"what": "host", "phase": None, "predicted": 1, "measured": 61_000.4}]
    EventLog(run.events_jsonl).emit("cost", phases=phases, compared=host)
    assert read_rehearsed(run).measured == Figures(17_000, 18_400, 61_000, 9.0)


def test_caches_count_where_the_rehearsal_computed_them(run):
    estimate = [{**phase, "reserved_mib": 17_000} if phase["name"] == "caching" else phase for phase in ESTIMATE["gpu"]]
    run.plan_json.write_text(json.dumps({**run.plan(), "estimate": {**ESTIMATE, "gpu": estimate}}))
    log = EventLog(run.events_jsonl)
    log.emit("data", latents_computed=0, prompts_computed=0)
    assert read_rehearsed(run).predicted.gpu_reserved_mib == 15_000
    log.emit("data", latents_computed=3, prompts_computed=0)
    assert read_rehearsed(run).predicted.gpu_reserved_mib == 17_000


def test_the_whole_run_is_its_steps_and_as_many_saves_at_the_speed_of_the_sample(run):
    step(run, 1, 9.0, [])
    step(run, 2, 2.0, [], skipped=True)
    assert read_rehearsed(run).whole_run.save_seconds is None
    EventLog(run.events_jsonl).emit("write_speed", path=str(run.path), bytes=256 * 2**20, seconds=2.0)
    rehearsed = read_rehearsed(run)
    assert (rehearsed.whole_run.saves, rehearsed.whole_run.save_seconds) == (4, 4 * 8.0)
    assert rehearsed.to_json()["whole_run"]["seconds"] == 2032.0
    assert rehearsed.skipped == 1


def test_a_sample_of_a_save_is_written_and_gone(tmp_path):
    size, seconds = write_sample(tmp_path, checkpoint_mib=3)
    assert (size, seconds > 0, list(tmp_path.iterdir())) == (3 * 2**20, True, [])
    assert write_sample(tmp_path, checkpoint_mib=0)[0] == 2**20
