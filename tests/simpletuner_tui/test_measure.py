"""``measure`` with the real probe: its table, its JSON, its faults, and nothing left where it was stopped."""

import json
from dataclasses import replace

import psutil
import pytest

from harness.h200 import H200, keep
from harness.runs import CLI, cli, wait_for
from harness.screens import CARD
from harness.terminal import Terminal
from launcher.errors import ExitCode
from launcher.machine import measuring
from launcher.machine.bandwidths import Bandwidths, bandwidths_file, known, this_hardware
from launcher.machine.gpus import Gpus
from launcher.machine.host import read_host
from simpletuner_tui.cli import main
from simpletuner_tui.commands.measure import speed_lines

WAITED = "measuring this machine, some 25 s; leave it to itself meanwhile, Ctrl-C stops it\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # no GPU here, whichever machine it is
    return tmp_path


def kept(folder) -> list[str]:
    return [path.name for path in (folder / "cache/simpletuner-tui/bandwidths").glob("*")]


def test_it_measures_keeps_and_tells_what_a_machine_without_a_gpu_has(folder, monkeypatch, capfd):
    monkeypatch.setattr(measuring, "PROBE", (*measuring.PROBE, "--elements", "2000000"))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(folder))  # DeepSpeed's Adam takes seconds to load
    (folder / "swap").mkdir()
    assert main(["measure", "--threads", "1", "--nvme", "swap", "--json"]) == ExitCode.OK
    out, err = capfd.readouterr()
    measured = Bandwidths.from_bytes(out.encode())
    assert measured == known(this_hardware(1))
    assert (measured.gpu, measured.drive.path) == (None, str(folder / "swap"))
    assert err == f"{WAITED}kept; the seconds of a step are told of machines with a GPU\n"
    assert kept(folder) == [bandwidths_file(measured.hardware).name]
    assert list((folder / "swap").iterdir()) == []
    first, *rows = speed_lines(measured)
    assert first.endswith(" s: the host alone: torch can use no GPU here")
    assert [row.split()[0] for row in rows] == ["Host", "CPU", "The", "Drive"]


def test_a_gpu_has_a_line_for_each_thing_that_a_step_waits_for():
    measured = replace(H200, seconds=21.7)
    first, *rows = speed_lines(measured)
    assert first == f"Measured in 22 s: {H200.hardware.gpu}"
    assert f"  PCIe, pinned memory      {H200.gpu.up_gb_s:.1f} GB/s up, {H200.gpu.down_gb_s:.1f} down" in rows
    assert f"  GPU launch overhead      {H200.gpu.op_seconds * 1e6:.1f} microseconds an operation" in rows
    tflops = H200.gpu.transformer.large
    said = f"{tflops.forward_tflops:.0f} TFLOP/s forward, {tflops.backward_tflops:.0f} backward"
    assert f"  Transformer block, bf16  {said}" in rows
    assert any(row.startswith("  CPU Adam, 16 threads     ") and row.endswith(H200.host.adam) for row in rows)
    one_pass = f"{H200.host.one_pass_elements_s / 1e6:,.0f} million elements/s, clipped and rounded"
    assert f"  The same in one pass     {one_pass}" in rows
    assert max(len(row) for row in rows) <= 80


def test_what_cannot_be_measured_ends_with_3_in_words(folder):
    done = cli("measure", "--nvme", "nowhere", cwd=folder)
    assert (done.returncode, done.stdout) == (3, "")
    fault = f"error: {folder}/nowhere cannot be measured: No such file or directory; name another folder\n"
    assert done.stderr == WAITED + fault
    assert kept(folder) == []


def test_ctrl_c_stops_it_and_nothing_is_left(folder):
    (folder / "swap").mkdir()
    terminal = Terminal(CLI, "measure", "--nvme", "swap", cwd=folder)
    try:
        terminal.read_until("1 s")
        (probe,) = psutil.Process(terminal.process.pid).children()
        second = cli("measure", cwd=folder)
        terminal.interrupt()
        assert terminal.wait() == 130
    finally:
        terminal.close()
    assert (second.returncode, "is being measured already: try again in half a minute" in second.stderr) == (3, True)
    assert "cancelled" in terminal.seen
    assert "Traceback" not in terminal.seen
    wait_for(lambda: not probe.is_running())
    assert kept(folder) == list((folder / "swap").iterdir()) == []


# what leads to it


ANSWERS = {
    "training.pretrained_model_name_or_path": "owner/sdxl",
    "training.instance_data_dir": "./pictures",
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 2,
    "accelerate.offload_optimizer": "cpu",
    "accelerate.mixed_precision": "bf16",
}


@pytest.fixture
def with_gpu(folder, monkeypatch):
    """A machine with a GPU that nobody measured."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    hardware = replace(H200.hardware, threads=read_host().cores)
    monkeypatch.setattr("launcher.plan._hardware", lambda threads: replace(hardware, threads=threads))
    for module in ("commands.replay", "commands.plan"):
        monkeypatch.setattr(f"simpletuner_tui.{module}.read_nvml", lambda: Gpus((CARD,)))
    (folder / "answers.json").write_text(json.dumps({"schema": 1, "answers": ANSWERS}))
    return hardware


def last_line(capsys, *arguments: str) -> str:
    assert main(["estimate", "answers.json", *arguments]) == ExitCode.OK
    return capsys.readouterr().out.splitlines()[-1]


def test_an_estimate_says_what_would_tell_the_seconds_of_a_step(with_gpu, capsys, monkeypatch):
    offered = "The seconds of a step wait for this machine to be measured: simpletuner-tui measure{} would tell them."
    assert last_line(capsys) == offered.format("")
    assert last_line(capsys, "--vram", "8GiB") == offered.format("")
    assert last_line(capsys, "--set", "training.cpu_threads=1001") == offered.format(" --threads 1001")
    assert not last_line(capsys, "--set", "accelerate.use_cpu=true").startswith("The seconds")
    keep(replace(H200, hardware=with_gpu))
    main(["estimate", "answers.json"])
    told = capsys.readouterr().out
    assert "\nA step moves: 4.8 GiB up to each GPU, 4.8 GiB down, " in told
    assert "s on this machine's NVIDIA H200: forward 0." in told
    assert "would tell them" not in told


def test_a_plan_says_whose_seconds_it_tells_whatever_the_budget(with_gpu, capsys):
    keep(replace(H200, hardware=with_gpu))
    assert main(["plan", "--vram", "12GiB", "--ram", "64GiB", "--disk", "100GiB", "--batch", "1"]) == ExitCode.OK
    assert " s a step on this machine's NVIDIA H200\n" in capsys.readouterr().out
