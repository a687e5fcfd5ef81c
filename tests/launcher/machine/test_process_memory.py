"""GPU memory of a process as NVML tells of it; the module that asks the driver is the only thing made up here."""

import os
import sys
from types import SimpleNamespace

from harness.nvml import MIB, FakeNvml, card, memory
from launcher.machine.process_memory import ProcessMemory

UUID = "GPU-00-beef"


class WithProcesses(FakeNvml):
    """Names processes too."""

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return next(card for card in self.cards if card.uuid == uuid)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return handle.processes


def measured(monkeypatch, *processes) -> tuple[SimpleNamespace, ProcessMemory]:
    gpu = card()
    gpu.processes = [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in processes]
    monkeypatch.setitem(sys.modules, "pynvml", WithProcesses(gpu))
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
