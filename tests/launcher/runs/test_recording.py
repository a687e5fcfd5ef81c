"""What a run's machine showed, kept by real supervisors over a stand-in training."""

import json
import os
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from harness.nvml import FakeNvml, card
from harness.runs import events, supervisor, wait_for, wait_until_over
from launcher.config.accelerate import LaunchSettings
from launcher.runs.directory import create
from launcher.runs.readings import read_header, read_rows
from launcher.runs.recording import RunReader, folders_of
from launcher.runs.spawn import launch
from launcher.runs.state import Status
from launcher.runs.stop import request_stop

CARDS = """
import sys
sys.path.remove({here!r})
del sys.modules["pynvml"]
from harness.nvml import FakeNvml, card
sys.modules["pynvml"] = FakeNvml(card(0), card(1), card(2))
"""
HANGS = """
import time
class NVMLError(Exception): pass
def nvmlInit(): time.sleep(600)
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Puts another ``pynvml`` before the real one, for processes that are started from here."""

    def install(code: str) -> None:
        here = tmp_path / "driver"
        here.mkdir()
        (here / "pynvml.py").write_text(code.format(here=str(here)))
        monkeypatch.setenv("PYTHONPATH", f"{here}{os.pathsep}{os.environ['PYTHONPATH']}")

    return install


def rows(run) -> list[dict[str, float]]:
    header = read_header(run.readings)
    return [] if header is None else [
        dict(zip(header.columns, row, strict=True)) for row in read_rows(run.readings, len(header.columns))
    ]  # fmt: skip


def test_a_run_keeps_what_its_gpus_processes_host_and_disk_showed(started, driver):
    driver(CARDS)
    run = started("long", CUDA_VISIBLE_DEVICES="2,0")
    wait_for(lambda: len(rows(run)) >= 3)
    request_stop(run, "seen enough")
    assert wait_until_over(run).status is Status.STOPPED
    header = read_header(run.readings)
    assert [gpu.uuid for gpu in header.gpus] == ["GPU-22-beef", "GPU-00-beef"]
    assert header.folders == (str(run.path),)
    last = rows(run)[-1]
    assert (last["gpu.1.used_mib"], last["gpu.1.power_w"]) == (948, pytest.approx(412.345))
    assert 5 < last["run.resident_mib"] < 200 and last["run.pinned_mib"] == 0
    assert 0 < last["host.available_mib"] < header.host_total_mib
    assert 1.8 < rows(run)[2]["seconds"] < 4


def test_a_run_that_goes_on_adds_to_them(started):
    run = started("short")
    wait_until_over(run)
    before = len(rows(run))
    assert before >= 1
    launch(run)
    wait_until_over(run)
    found = rows(run)
    assert len(found) > before
    assert found[-1]["seconds"] > found[0]["seconds"]


def test_a_driver_that_hangs_neither_delays_a_run_nor_keeps_its_end_back(started, driver):
    driver(HANGS)
    began = time.monotonic()
    run = started("short")
    pid = supervisor(run)
    over = wait_until_over(run)
    assert (over.status, over.state["message"]) == (Status.COMPLETED, "trained 3 steps")
    assert time.monotonic() - began < 15
    wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, 5)
    assert not run.readings.exists()


def test_readings_that_cannot_be_kept_are_no_reason_to_end_a_run(started, tmp_path):
    (tmp_path / "short").mkdir()
    (tmp_path / "short/readings.bin").mkdir()
    run = started("short")
    assert wait_until_over(run).status is Status.COMPLETED
    assert len(events(run, "step")) == 3


# which GPUs and which folders


def planned(path: Path, launch_settings: LaunchSettings, deepspeed: dict | None = None, output_dir: str = "", **more):
    training = {"pretrained_model_name_or_path": "/model", "instance_data_dir": "/data", "output_dir": output_dir}
    content = {"argv": [], "environment": {}, **more}
    files = {
        "plan.json": json.dumps(content).encode(),
        "accelerate.yaml": yaml.safe_dump(launch_settings.to_yaml_object()).encode(),
        "deepspeed.json": json.dumps(deepspeed or {"zero_optimization": {"stage": 2}}).encode(),
        "training.json": json.dumps({key: value for key, value in training.items() if value}).encode(),
    }
    return create(path, files)


@pytest.mark.parametrize(
    ("launched", "inherited", "indices"),
    [
        (LaunchSettings(), None, [0]),
        (LaunchSettings(num_processes=2), None, [0, 1]),
        (LaunchSettings(num_processes=2), "3,1,0", [3, 1]),
        (LaunchSettings(deepspeed=False, gpu_ids="2"), "3,1", [2]),
    ],
)
def test_the_gpus_of_a_run_are_those_that_its_processes_get(tmp_path, monkeypatch, launched, inherited, indices):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(*map(card, range(4))))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if inherited:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)
    sample = RunReader(planned(tmp_path / "run", launched))()
    assert [gpu.index for gpu in sample.gpus] == indices


def test_a_run_on_the_cpu_asks_no_driver(tmp_path, monkeypatch):
    fake = FakeNvml(card())
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    run = planned(tmp_path / "run", LaunchSettings(use_cpu=True), environment={"CUDA_VISIBLE_DEVICES": ""})
    sample = RunReader(run)()
    assert (sample.gpus, sample.no_gpus, fake.calls) == ((), "CUDA_VISIBLE_DEVICES shows none", [])


def test_the_folders_of_a_run_are_where_it_writes(tmp_path):
    swaps = {"device": "nvme", "nvme_path": str(tmp_path / "nvme")}
    config = {"zero_optimization": {"stage": 3, "offload_optimizer": swaps, "offload_param": swaps}}
    run = planned(tmp_path / "run", LaunchSettings(), config, output_dir=str(tmp_path / "out"))
    assert folders_of(run) == [tmp_path / "run", tmp_path / "out", tmp_path / "nvme"]
    assert folders_of(planned(tmp_path / "plain", LaunchSettings())) == [tmp_path / "plain"]


def test_each_machine_keeps_its_own_beside_its_own_log(tmp_path):
    first = planned(tmp_path / "run", LaunchSettings(), output_dir=str(tmp_path / "out"))
    second = planned(tmp_path / "run/machine-1", LaunchSettings(), trains=str(first.path))
    assert second.readings == tmp_path / "run/machine-1/readings.bin"
    assert folders_of(second) == [tmp_path / "run", tmp_path / "out"]
