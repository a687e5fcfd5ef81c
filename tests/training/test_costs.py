"""What a run tells of its costs: beside the prediction at its end, and where the GPU's memory does not suffice."""

import json
from types import SimpleNamespace

import pytest
import torch

from launcher.runs.directory import RunDirectory
from launcher.runs.events import EventLog, read_events
from launcher.train.costs import Costs
from launcher.train.distributed import World
from launcher.train.memory import Held
from launcher.train.report import Report

WORLD = World(0, 1, torch.device("cpu"))


class Meter:
    """A GPU's memory, phase by phase as it is told; there is no GPU here."""

    def __init__(self, *peaks: Held) -> None:
        self._peaks = list(peaks)
        self.peak_reserved = 0

    def begin(self) -> None: ...

    def end(self) -> Held:
        return self._peaks.pop(0)

    def now(self) -> Held:
        return self._peaks[0]


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    phases = [{"name": "init", "process_mib": 16_000}, {"name": "step", "process_mib": 8_000}]
    estimate = {"gpu": phases, "gpu_mib": 16_000, "host_mib": 50_000, "step_seconds": 2.0}
    (tmp_path / "plan.json").write_text(json.dumps({"estimate": estimate}))
    return RunDirectory(tmp_path)


def reported(run: RunDirectory, *peaks: Held) -> tuple[Report, Costs]:
    report = Report(EventLog(run.events_jsonl))
    report.meter = Meter(*peaks)
    return report, Costs(report)


def told(run: RunDirectory, name: str) -> list[dict]:
    return [event for event in read_events(run.events_jsonl)[0] if event["event"] == name]


def test_predictions_stand_beside_what_was_measured(run, monkeypatch):
    monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_maxrss=50_500 * 1024))
    report, costs = reported(run, Held(9_000, 14_000, 15_900), Held(5_000, 6_000, 7_900))
    for name in ("engine", "train"):
        with report.phase(name):
            for seconds in (9.0, 2.1, 2.3):
                report.event("step", seconds={"total": seconds})
    costs.tell(run, WORLD)
    (cost,) = told(run, "cost")
    rows = {(row["what"], row["phase"]): (row["predicted"], row["measured"]) for row in cost["compared"]}
    assert rows[("gpu", "init")] == (16_000, 15_900)
    assert rows[("gpu", "step")] == (8_000, 7_900)
    assert rows[("gpu", None)] == (16_000, 15_900)
    assert rows[("host", None)] == (50_000, 50_500)
    assert rows[("step_seconds", None)][0] == 2.0
    assert told(run, "warning") == []
    ended = [event for event in told(run, "phase") if event["state"] == "end"]
    assert ended[0]["vram_mib"] == {"allocated": 9_000, "reserved": 14_000, "process": 15_900}


def test_a_miss_says_so_and_how_to_report_it(run, monkeypatch):
    monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_maxrss=60_000 * 1024))
    report, costs = reported(run, Held(9_000, 16_000, 17_000))
    with report.phase("engine"):
        pass
    costs.tell(run, WORLD)
    gpu, host = (event["message"] for event in told(run, "warning"))
    assert gpu.startswith("each GPU: 17,000 MiB at the peak, and 16,000 MiB were predicted (-6%); to have")
    assert host.startswith("host memory: 60,000 MiB at the peak, and 50,000 MiB were predicted (-17%)")
    assert str(run.path / "plan.json") in gpu


def test_without_a_gpu_nothing_is_compared(run):
    report = Report(EventLog(run.events_jsonl))
    Costs(report).tell(run, WORLD)
    assert told(run, "cost") == []


def test_a_gpu_that_is_out_of_memory_says_the_phase_the_figures_and_what_to_change(run, monkeypatch):
    monkeypatch.setattr("launcher.train.costs.changes", lambda phase, run: (f"change what {phase} takes",))
    report, costs = reported(run, Held(9_000, 15_000, 16_500))
    with pytest.raises(torch.OutOfMemoryError), report.phase("train"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    message = str(costs.out_of_memory(run))
    assert message.startswith(
        "the GPU is out of memory in phase train: torch held 15,000 MiB and the process 16,500 MiB, where 8,000 MiB "
        "were predicted; change what step takes"
    )
    (event,) = told(run, "out_of_memory")
    assert event["phase"] == "step"
    assert (event["measured"]["process"], event["predicted_mib"]) == (16_500, 8_000)
