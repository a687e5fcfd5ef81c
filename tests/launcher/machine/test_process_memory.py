"""GPU memory of a process as NVML tells of it; the module that asks the driver is the only thing made up here."""

import os
import sys
from types import SimpleNamespace

from harness.nvml import GPU_IS_LOST, LIBRARY_NOT_FOUND, MIB, FakeNvml, card, memory
from launcher.machine.process_memory import ProcessMemory

UUID = "GPU-00-beef"


def measured(monkeypatch, *processes) -> tuple[SimpleNamespace, ProcessMemory]:
    gpu = card(computing=[SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in processes])
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(gpu))
    return gpu, ProcessMemory()


def test_it_is_what_the_driver_says_of_this_process(monkeypatch):
    _, process = measured(monkeypatch, (1, 99 * MIB), (os.getpid(), 700 * MIB))
    assert process.read(UUID) == 700


def test_where_the_driver_knows_no_processes_it_is_what_was_used_since(monkeypatch):
    for processes in ((), ((1, 99 * MIB),), ((os.getpid(), None),)):
        gpu, process = measured(monkeypatch, *processes)
        gpu.v2 = memory(24564, 20000, 948 + 1500)
        assert process.read(UUID) == 1500


def test_a_part_of_a_gpu_is_not_known(monkeypatch):
    _, process = measured(monkeypatch)
    assert process.read("MIG-1234") is None


def test_without_a_driver_nothing_is_known(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(fails=LIBRARY_NOT_FOUND))
    assert ProcessMemory().read(UUID) is None


def test_a_gpu_that_was_lost_is_not_known_any_more(monkeypatch):
    gpu, process = measured(monkeypatch, (os.getpid(), 700 * MIB))
    gpu.lost = GPU_IS_LOST
    assert process.read(UUID) is None


def test_the_driver_is_not_opened_at_each_reading(monkeypatch):
    _, process = measured(monkeypatch)
    fake = sys.modules["pynvml"]
    fake.calls.clear()
    process.read(UUID)
    assert "nvmlInit" not in fake.calls
