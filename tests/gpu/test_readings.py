"""On a real NVIDIA GPU: readings beside nvidia-smi's, and what a look at it costs. Skipped where there is none."""

import os
import subprocess
import sys
import time

import pytest

from benchmarks.nvidia_smi import nvidia_smi, processes
from launcher.machine.gpu_processes import in_container
from launcher.machine.gpus import read_nvml
from launcher.machine.nvml_sample import NvmlReader
from launcher.machine.sample import Unknown

NVML = read_nvml()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not NVML.gpus, reason=NVML.reason or "no GPU"),
    pytest.mark.timeout(300),
]

APART = {
    "total_mib": 0,
    "used_mib": 8,
    "reserved_mib": 1,
    "temperature": 2,
    "power_limit_w": 0.1,
    "memory_clock_mhz": 0,
    "ecc_errors": 0,
}
"""How far a figure may be from what nvidia-smi printed a moment before or after."""
HOLD = "import sys, torch; a = torch.zeros(2**28, device='cuda'); print('ready', flush=True); sys.stdin.read()"


@pytest.fixture(scope="module")
def held():
    """A process that holds 1 GiB of the first GPU and leaves it in peace; the other GPUs may be anyone's."""
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    time.sleep(2)  # power and clocks go back to what they are at rest
    yield process
    process.stdin.close()
    process.wait(60)


def compared(sample: float | Unknown, *printed: str) -> float | None:
    """How far a figure is from where nvidia-smi had it; None where neither knows it."""
    known = [float(each) for each in printed if each[:1].isdigit()]
    if isinstance(sample, Unknown) or not known:
        assert isinstance(sample, Unknown) and not known, f"{sample} beside {printed}"
        return None
    return max(min(known) - sample, sample - max(known), 0)


def test_readings_are_what_nvidia_smi_prints(held):
    read = NvmlReader()
    before, (gpu, *_), after = nvidia_smi(), read().gpus, nvidia_smi()
    for figure, apart in APART.items():
        found = compared(getattr(gpu, figure), before[gpu.uuid][figure], after[gpu.uuid][figure])
        assert found is None or found <= apart, figure
    for figure in ("power_w", "clock_mhz"):  # they move between two looks
        found = compared(getattr(gpu, figure), before[gpu.uuid][figure], after[gpu.uuid][figure])
        assert found is None or found <= 0.3 * getattr(gpu, figure), figure
    assert gpu.used_mib >= 1024 and not gpu.lost


def test_a_process_is_told_with_its_memory_or_why_not(held):
    (gpu, *_) = NvmlReader()().gpus
    if isinstance(gpu.processes, Unknown):
        assert in_container() or gpu.processes.reason.startswith("Windows")
        return
    mine = {process.pid: process.mib for process in gpu.processes}
    assert mine[held.pid] >= 1024
    listed = processes().get(gpu.uuid, {})
    assert mine[held.pid] == pytest.approx(float(listed[str(held.pid)]), abs=8)


def test_gpus_are_those_that_cuda_shows_and_in_its_order():
    each = "f'GPU-{torch.cuda.get_device_properties(n).uuid}' for n in range(torch.cuda.device_count())"
    code = f"import torch; print(*({each}))"
    for names in (None, "0", ",".join(str(gpu.index) for gpu in reversed(NVML.gpus)), NVML.gpus[-1].uuid):
        environment = {**os.environ, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        if names is not None:
            environment["CUDA_VISIBLE_DEVICES"] = names
        shown = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert [gpu.uuid for gpu in NvmlReader(names)().gpus] == shown.stdout.split(), names


def test_a_look_costs_less_than_a_hundredth_of_a_core_for_each_gpu():
    read = NvmlReader(first=1)
    read()
    busy = time.process_time()
    for _ in range(20):
        read()
    assert (time.process_time() - busy) / 20 < 0.010
