"""Trackers get what the events hold, and none of them decides whether a run lives."""

import json
from pathlib import Path

import pytest
from accelerate.state import PartialState
from accelerate.tracking import TensorBoardTracker
from accelerate.utils import LoggerType
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from launcher.config.settings import Settings
from launcher.config.training import DataSettings, ModelSettings, TrackingSettings, TrainingSettings
from launcher.runs.directory import RunDirectory, create
from launcher.runs.events import EventLog, read_events
from launcher.train.report import Report
from launcher.train.trackers import tracking

STEP = {
    "max_steps": 3,
    "lr": 1e-3,
    "grad_norm": None,
    "seconds": {"total": 0.5, "data": 0.1},
    "samples_per_second": 4.0,
    "vram_mib": [{"allocated": 1, "reserved": 3, "peak": 2}, {"allocated": 1, "reserved": 3, "peak": 5}],
    "rss_mib": 100,
}


@pytest.fixture(autouse=True)
def own_state():
    """accelerate keeps what it knows of the processes for the whole process."""
    yield
    PartialState._reset_state()


@pytest.fixture
def run(tmp_path, group):
    """A run directory whose report_to a test chooses."""

    def make(report_to: str, name: str = "") -> RunDirectory:
        training = TrainingSettings(
            model=ModelSettings(pretrained_model_name_or_path="model"),
            data=DataSettings(instance_data_dir="pictures"),
            tracking=TrackingSettings(report_to=report_to, tracker_run_name=name),
        )
        settings = Settings(training=training)
        plan = {"argv": ["python"], "estimate": {"gpu_mib": 7}, "notes": ["a note"]}
        files = {"plan.json": plan, "deepspeed.json": settings.deepspeed_json(), "training.json": training.to_json()}
        return create(tmp_path / "cats", {name: json.dumps(content).encode() for name, content in files.items()})

    return make


def report_of(run: RunDirectory) -> Report:
    return Report(EventLog(run.events_jsonl))


def warnings(run: RunDirectory) -> list[str]:
    return [event["message"] for event in read_events(run.events_jsonl)[0] if event["event"] == "warning"]


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def test_tensorboard_has_every_step_and_what_the_run_is(run):
    made = run("tensorboard", "../my cats")
    report = report_of(made)
    with tracking(made, report):
        for step in (1, 2, 3):
            report.event("step", step=step, loss=1 / step, **STEP)
        report.event("evaluation", when="after", loss=0.25, step=3)
        report.event("checkpoint", step=3)
    assert warnings(made) == []
    (folder,) = (made.path / "tensorboard").iterdir()
    assert folder.name == "-my-cats"
    told = read(folder)
    assert [(each.step, each.value) for each in told.Scalars("loss")] == [
        (step, pytest.approx(1 / step)) for step in (1, 2, 3)
    ]
    for tag, value in (
        ("lr", 1e-3),
        ("samples_per_second", 4.0),
        ("vram_mib/rank_1", 5),
        ("seconds/data", 0.1),
        ("evaluation_loss/after", 0.25),
    ):
        assert told.Scalars(tag)[-1].value == pytest.approx(value)
    assert "grad_norm" not in told.Tags()["scalars"]
    for part, words in (("plan", "a note"), ("deepspeed", "zero_optimization"), ("platform", "cores")):
        (text,) = told.Tensors(f"{part}/text_summary")
        assert words in text.tensor_proto.string_val[0].decode()
    (stored,) = folder.glob("*/hparams.yml")
    assert "deepspeed.zero_optimization.stage: 2" in stored.read_text()


def test_without_a_tracker_the_events_hold_it_all(run):
    made = run("none")
    report = report_of(made)
    with tracking(made, report):
        report.event("step", step=1, loss=0.5, **STEP)
    configuration, step = read_events(made.events_jsonl)[0]
    assert configuration["plan"]["notes"] == ["a note"]
    assert configuration["deepspeed"] == made.deepspeed()
    assert configuration["platform"]["device"] == "cpu"
    assert step["loss"] == 0.5
    assert not (made.path / "tensorboard").exists()


def test_a_tracker_that_fails_is_said_once_and_ends_nothing(run, monkeypatch):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    made = run("tensorboard")
    report = report_of(made)
    with tracking(made, report):
        report.event("step", step=1, loss=1.0, **STEP)
        monkeypatch.setattr(TensorBoardTracker, "log", fail)
        report.event("step", step=2, loss=0.5, **STEP)
        report.event("step", step=3, loss=0.25, **STEP)
    (warning,) = warnings(made)
    assert warning.startswith("tensorboard fails and is not followed any more; the run goes on (OSError")
    assert [event["step"] for event in read_events(made.events_jsonl)[0] if event["event"] == "step"] == [1, 2, 3]


def test_one_that_does_not_start_leaves_the_other(run, monkeypatch):
    monkeypatch.setattr(
        "accelerate.tracking._available_trackers", [LoggerType.TENSORBOARD]
    )  # as where wandb is not installed
    made = run("tensorboard,wandb")
    report = report_of(made)
    with tracking(made, report):
        report.event("step", step=1, loss=1.0, **STEP)
    (warning,) = warnings(made)
    assert warning.startswith("wandb fails")
    assert [each.value for each in read(made.path / "tensorboard/cats").Scalars("loss")] == [1.0]
