"""``python -m benchmarks.training`` in its tiny form, and what is made of its figures."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.answers import STREAMED
from benchmarks.reading import BEFORE, BETWEEN, result
from benchmarks.results import Results
from benchmarks.sampling import Sampler
from benchmarks.training.__main__ import main
from benchmarks.training.rows import PEERS, ROWS
from benchmarks.training.table import BEGIN, END, MEASURED, markdown, written
from harness.h200 import H200
from harness.nvml import FakeNvml, card, memory, process
from harness.runs import events, wait_for
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events
from launcher.runs.processes import processes_of_run
from launcher.runs.state import status

ROOT = Path(__file__).parents[1]
ROW, SETTING = "64x2 resident", "64x2"
PLAIN, _, TORCHAO, *_ = PEERS
ARGUMENTS = ("--tiny", "--rows", "1024x8 resident", "--steps", "3")


@pytest.fixture(scope="module")
def out(assets, tmp_path_factory) -> Path:
    """One row with its stock counterpart and its engine alone; it takes some 40 s."""
    folder = tmp_path_factory.mktemp("benchmarks")
    for name in ("model", "pictures"):
        (folder / name).symlink_to(assets / name)
    command = [sys.executable, "-m", "benchmarks.training", folder, *ARGUMENTS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def measured(out) -> dict:
    return json.loads((out / "measured.json").read_bytes())


# the command


def test_every_figure_is_there(measured):
    (machine,) = measured["machines"].values()
    assert {"gpu", "gpus", "driver", "cpu", "cores", "ram_gib", "versions", "bandwidths"} <= machine.keys()
    assert machine["versions"].keys() >= {"python", "torch", "deepspeed", "diffusers"}
    assert machine["bandwidths"]["host"]["adam_elements_s"] > 0
    for found in (measured["ours"][ROW], measured["stock"][SETTING], measured["bare"][ROW]):
        assert found["code"] == 0
        assert (found["process_mib"], found["device_mib"], found["torch_mib"]) == (None, None, None), "no GPU here"
        assert found["host_mib"] > 100
        assert found["engine_seconds"] > 0
        assert 0 < found["before_seconds"] < found["seconds"]
        assert 0 <= found["after_seconds"] < found["seconds"]
        assert len(found["steps"]) == len(found["losses"]) == 3
        parts = ("data", "forward", "backward", "optimizer", "total")
        assert all(found["step_seconds"][part] >= 0 for part in parts)
        assert {"load", "engine", "train"} <= found["phases"].keys()
    assert "save" in measured["ours"][ROW]["phases"], "the run's weights, as a person's are"
    assert {"captions", "latents"} <= measured["caches"]["caches"]["phases"].keys()


def test_all_train_the_same(out, measured):
    ours = measured["ours"][ROW]["losses"]
    assert measured["stock"][SETTING]["losses"] == pytest.approx(ours, rel=1e-3)
    assert measured["bare"][ROW]["losses"] == pytest.approx(ours, rel=1e-3)
    (stock,) = (
        event["deepspeed"]
        for event in read_events(out / "runs/benchmarks-stock-zero-64x2.jsonl")[0]
        if event["event"] == "configuration"
    )
    run = json.loads((out / "runs/64x2-resident/deepspeed.json").read_bytes())
    same = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping", "bf16")
    assert {name: run[name] for name in (*same, "optimizer", "scheduler")} == {
        name: stock[name] for name in (*same, "optimizer", "scheduler")
    }
    assert stock["zero_optimization"]["reduce_bucket_size"] == 5e8


def test_what_is_known_is_not_measured_again(out, capfd):
    before = (out / "measured.json").read_bytes()
    main([str(out), *ARGUMENTS])
    assert capfd.readouterr().out == ""
    assert (out / "measured.json").read_bytes() == before


def test_an_interruption_leaves_no_training_behind(out):
    """Else it would train on beside what is measured next."""
    run = RunDirectory(out / "runs" / "64x2-resident")
    shutil.rmtree(run.path)
    arguments = ["--tiny", "--rows", "1024x8 resident", "--only", "ours", "--steps", "900"]
    with subprocess.Popen([sys.executable, "-m", "benchmarks.training", out, *arguments], cwd=ROOT) as benchmark:
        wait_for(lambda: events(run, "step"), 120)
        benchmark.send_signal(signal.SIGINT)
        benchmark.wait(30)
    assert processes_of_run(str(run.path)) == []
    assert not status(run).going


def test_its_table_is_made(measured):
    table = markdown(measured)
    assert f"| {ROW} | - | - | 12,400 | - | - |" in table
    assert "| loop over its engine | a step, s |" in table


# what is seen from outside


def test_memory_is_told_by_phase_of_the_processes_that_train(monkeypatch):
    gpu = card(computing=[])
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(gpu))
    training = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(30)", "train-me"])
    sampler = Sampler([gpu.uuid], lambda line: "train-me" in line)
    events = []

    def goes_on(used: int, own: int) -> None:
        """Until it has been looked at a few times."""
        gpu.v2, gpu.computing = memory(24564, 20000 - used, used), [process(1, 99), process(training.pid, own)]
        seen = len(sampler.looks)
        wait_for(lambda: len(sampler.looks) > seen + 3, every=0.01)

    def phase(name: str, state: str) -> None:
        events.append({"time": time.time(), "event": "phase", "phase": name, "state": state, "seconds": 1.0})

    try:
        with sampler.running():
            wait_for(lambda: sampler.host_mib > 0)
            goes_on(948 + 100, 90)
            phase("train", "start")
            goes_on(948 + 3000, 2900)
            phase("save", "start")
            goes_on(948 + 5000, 4900)
            phase("save", "end")
            goes_on(948 + 3000, 2900)
            phase("train", "end")
            goes_on(948 + 200, 190)
    finally:
        training.kill()
        training.wait()
    found = result(events, sampler)
    assert (found["process_mib"], found["device_mib"]) == (4900, 5000)
    by_phase = {name: figures["process_mib"] for name, figures in found["phases"].items()}
    # A look may lie on both sides of a change.
    assert by_phase.keys() == {BEFORE, "train", "save", BETWEEN}
    assert by_phase["save"] == 4900
    assert by_phase[BEFORE] < 2900
    assert sampler.process_mib([look for look in sampler.looks if look.grown_mib == [3000]]) == [2900]


def test_where_nvml_does_not_know_the_processes_only_the_growth_is_told(monkeypatch):
    gpu = card(computing=[process(1, 99)])
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(gpu))
    sampler = Sampler([gpu.uuid], lambda line: False)
    with sampler.running():
        gpu.v2 = memory(24564, 19000, 948 + 700)
        wait_for(lambda: len(sampler.looks) > 2, every=0.01)
    found = result([], sampler)
    assert (found["process_mib"], found["device_mib"]) == (None, 700)


# what is kept


def test_other_settings_failures_and_for_stock_another_machine_are_measured_again(tmp_path):
    file, asked = tmp_path / "measured.json", {"answers": {"a": (1, 2)}}
    results = Results(file, "here", tiny=False)
    results.put("ours", "works", asked, {"code": 0})
    results.put("ours", "failed", asked, {"code": 1})
    again = Results(file, "elsewhere", tiny=False)
    assert again.has("ours", "works", asked)
    assert not again.has("ours", "works", asked, here=True)
    assert not again.has("ours", "works", {"answers": {"a": (1, 3)}})
    assert not again.has("ours", "failed", asked)


# the table


def figures(mib: int, seconds: float, host_mib: int = 40_000, machine: str = "a", loss: float = 1.0) -> dict:
    """A measurement of three steps, of which one counts."""
    step = {"data": 0.001, "forward": 0.1, "backward": 0.4, "optimizer": seconds - 0.503, "total": seconds}
    return {
        "code": 0,
        "machine": machine,
        "process_mib": mib,
        "device_mib": mib + 9,
        "host_mib": host_mib,
        "phases": {
            "engine": {"process_mib": mib - 1, "device_mib": mib},
            "save": {"process_mib": mib, "device_mib": mib},
            "train": {"process_mib": mib, "device_mib": mib},
            BETWEEN: {"process_mib": mib, "device_mib": mib},
        },
        "step_seconds": step,
        "steps": [step] * 3,
        "losses": [1.0, loss, 1.0],
    }


@pytest.fixture
def made_up() -> dict:
    """In the form that the command writes."""
    machine = {
        "gpu": "NVIDIA H200",
        "gpus": 2,
        "driver": "580.159.04",
        "cpu": "a CPU",
        "cores": 32,
        "ram_gib": 256,
        "versions": {"torch": "2.11.0", "deepspeed": "0.19.8"},
        "bandwidths": H200.to_json(),
    }
    return {
        "machines": {"a": machine},
        "ours": {
            "1024x8 streamed": figures(8_300, 2.0, loss=1.0002),
            "1024x8 resident": figures(12_401, 1.95, host_mib=48_000),
            "1024x1 streamed": figures(2_900, 1.0) | {"process_mib": None},
            "768x4 streamed": {"code": 1, "machine": "a"},
            "128x8 streamed": figures(2_400, 1.0, machine="b"),
            "1024x8 streamed, two GPUs": figures(8_000, 2.5),
            "128x8 streamed, two GPUs": figures(2_300, 1.5),
        },
        "stock": {
            "1024x8": figures(16_684, 2.0),
            "128x8": figures(16_360, 2.0),
            "1024x8, two GPUs": figures(12_000, 4.0),
        },
        "bare": {"1024x8 streamed": figures(8_000, 1.95), "1024x8 resident": figures(8_000, 1.92)},
        "peers": {
            PLAIN: figures(61_000, 0.9),
            TORCHAO: {"code": None, "missing": "torchao"},
        },
    }


def test_the_table_holds_every_row_against_stock_and_its_limits(made_up):
    lines = markdown(made_up).splitlines()
    assert lines[0].startswith("On 2 x NVIDIA H200 (driver 580.159.04), a CPU, 32 cores, 256 GiB; torch 2.11.0, ")
    for line in (
        "| 1024x8 streamed | 8,300 | 16,684 | 8,300 | yes | train | 2.00 | 2.00 | 1.00 | 1.00 | yes "
        "| 39.1 | 39.1 | 2.0e-04 |",
        "| 1024x8 resident | 12,401 | 16,684 | 12,400 | **no** | train | 1.95 | 2.00 | 0.97 | 0.95 | **no** "
        "| 46.9, may be 46: **no** | 39.1 | 0.0e+00 |",
        "| 1024x1 streamed | 2,909 | - | 3,000 | yes | train | 1.00 | - | - | 1.20 | - | 39.1 | - | - |",
        "| 768x4 streamed | - | - | 4,500 | - | - | - | - | - | 1.10 | - | - | - | - |",
        "| 1024x8 streamed | 2.50 | 2.00 | 1.60 | 1.00 |",
        "| 1024x8 streamed | 2.000 | 1.950 | 2.6 % | 2.0 % | **no** | 3.0 | 2.0e-04 |",
        "| 1024x8 resident | 1.950 | 1.920 | 1.6 % | 2.0 % | yes | 3.0 | 0.0e+00 |",
        f"| {PLAIN} | 1024x8 | 61,000 | 0.90 | 39.1 |  | 0.0e+00 |",
    ):
        assert line in lines
    assert any(line.startswith("| 128x8 streamed (stock on another machine) |") for line in lines)
    scaled = lines[next(place for place, line in enumerate(lines) if line.startswith("| scaling |")) + 2 :]
    assert not any(line.startswith("| 128x8 streamed |") for line in scaled), "its two GPUs are another machine's"
    assert any("| torchao is not installed | - |" in line for line in lines)


def test_rows_have_names_of_their_own_and_every_way_its_limits():
    assert len(ROWS) == 12
    assert all(row.answers["accelerate.zero_stage"] in (2, 3) for row in ROWS.values())
    assert ROWS["1024x8 streamed"].answers == STREAMED


def test_the_table_is_written_between_its_marks():
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = written(page, "| new |\n")
    assert new == f"before\n{BEGIN}\n| new |\n{END}\nafter\n"
    assert written(new, "| new |\n") == new
    with pytest.raises(ValueError, match="put <!-- benchmarks: begin -->"):
        written("no marks", "| new |\n")


def test_the_readmes_table_is_what_was_measured():
    readme = (ROOT / "README.md").read_text()
    if MEASURED.exists():
        again = "python -m benchmarks.training.table --write README.md writes it anew"
        assert written(readme, markdown(json.loads(MEASURED.read_bytes()))) == readme, again
    else:
        assert BEGIN not in readme


# a CUDA context


def test_without_a_gpu_a_context_is_not_measured():
    command = [sys.executable, "-m", "benchmarks.context"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=hidden, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("there is no GPU to measure: ")
