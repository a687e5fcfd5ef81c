"""ZeRO with an Adam on the CPU, on a real NVIDIA GPU: pinned memory of exact size, and DeepSpeed's losses.

Skipped where there is no GPU.
"""

import gc
import json
import os
import subprocess
import sys

import psutil
import pytest
import torch

from harness.gpu_offloads import ACCUMULATION, STEPS
from harness.ranks import run_ranks
from launcher.machine.gpus import read_nvml
from launcher.train.offload import pinning
from launcher.train.offload.pinning import pinned_copy, pinned_empty

NVML = read_nvml()
MIB = 2**20
SIZE = 300 * MIB + 2
"""Of which torch makes 512 MiB."""
SLACK = 12 * MIB

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not NVML.gpus, reason=NVML.reason or "no GPU"),
    pytest.mark.timeout(300),
]

ON_CPU = {"offload_param_device": "cpu"}
CASES = {
    "stage 1, overlapped": {"stage": 1, "overlap_comm": True},
    "stage 2": {"stage": 2, "overlap_comm": False},
    "stage 2, overlapped": {"stage": 2, "overlap_comm": True},
    "stage 2, overlapped, what leaves the GPU comes late": {"stage": 2, "overlap_comm": True, "late": True},
    "stage 2, overlapped, not pinned": {"stage": 2, "overlap_comm": True, "offload_optimizer_pin_memory": False},
    "stage 3": {"stage": 3},
    "stage 3, parameters on the CPU": {"stage": 3, **ON_CPU},
    "stage 3, parameters on the CPU, overlapped": {"stage": 3, "overlap_comm": True, **ON_CPU},
}
ADDED_UP = [name for name in CASES if "stage 2" in name]
ON_TWO = [*ADDED_UP, "stage 3, parameters on the CPU"]
TOLERANCE = 1e-3
"""Relative: bf16 on a GPU adds in no order of its own."""
ADDED_UP_TOLERANCE = 5e-3
"""The same where ranks add up in another order than DeepSpeed's."""


class Counted:
    """What is asked of CUDA's runtime about host memory."""

    def __init__(self) -> None:
        self.codes = []
        self._runtime = torch.cuda.cudart()

    def _counted(self, name, *arguments):
        code = int(getattr(self._runtime, name)(*arguments))
        self.codes.append((name, code))
        return code

    def cudaHostRegister(self, *arguments):
        return self._counted("cudaHostRegister", *arguments)

    def cudaHostUnregister(self, *arguments):
        return self._counted("cudaHostUnregister", *arguments)


@pytest.fixture
def counted(monkeypatch):
    torch.ones(1, device="cuda")
    runtime = Counted()
    monkeypatch.setattr(pinning, "_cuda", lambda: runtime)
    return runtime


def resident() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def test_pinned_memory_is_as_large_as_asked_and_given_back(counted):
    before = resident()
    elements = SIZE // 2
    kept = pinned_empty((elements,), torch.bfloat16)
    assert kept.is_pinned()
    assert (kept.numel(), kept.dtype, kept.is_contiguous()) == (elements, torch.bfloat16, True)
    assert SIZE <= resident() - before < SIZE + SLACK
    part = kept[elements // 2 :].view(-1)
    del kept
    assert part.is_pinned()  # a view keeps it
    assert resident() - before >= SIZE
    del part
    assert resident() - before < SLACK
    assert counted.codes == [("cudaHostRegister", 0), ("cudaHostUnregister", 0)]
    small = pinned_empty((3, 5), torch.float32)
    assert small.is_pinned()
    assert small.shape == (3, 5)
    given = torch.randn(700, 1000)
    copy = pinned_copy(given)
    assert copy.is_pinned()
    assert torch.equal(copy, given)


def test_copies_from_and_to_it_do_not_wait(counted):
    host = pinned_empty((SIZE // 4,), torch.float32).fill_(3)
    there = torch.empty(host.shape, device="cuda")
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    for source, target in ((host, there), (there, host)):
        with torch.cuda.stream(stream):
            torch.cuda._sleep(400_000_000)  # two tenths of a second
            target.copy_(source, non_blocking=True)
            event = stream.record_event()
        assert not event.query()
        event.synchronize()
        assert float(target[-1]) == float(target[0]) == float(source[-1])
        if source is host:
            there.fill_(7)
            torch.cuda.synchronize()
    assert float(host[0]) == 7


def test_what_cuda_refuses_to_pin_torch_pins_and_the_next_kernel_runs(counted):
    register = counted.cudaHostRegister

    def refused(address, *arguments):
        register(address, *arguments)
        code = register(address, *arguments)  # it is pinned already
        counted.cudaHostUnregister(address)
        return code

    counted.cudaHostRegister = refused
    kept = pinned_empty((SIZE // 4,), torch.float32)
    assert [code == 0 for _, code in counted.codes] == [True, False, True]
    assert kept.is_pinned()
    assert float(torch.ones(1000, device="cuda").sum()) == 1000


@pytest.fixture(scope="module")
def told_by_two(assets, tmp_path_factory) -> dict:
    if len(NVML.gpus) < 2:
        pytest.skip("one GPU")
    folder = tmp_path_factory.mktemp("two")
    job = {"model": str(assets / "model"), "cases": {name: CASES[name] for name in ON_TWO}}
    run_ranks("harness.gpu_offloads", job, folder, 2, seconds=280, on_gpus=True)
    return json.loads((folder / "told.json").read_text())


@pytest.fixture(scope="module")
def told(assets, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("offloads")
    (folder / "job.json").write_text(json.dumps({"model": str(assets / "model"), "cases": CASES}))
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "DS_ACCELERATOR")}
    command = [sys.executable, "-m", "harness.rank", "harness.gpu_offloads", str(folder / "job.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "told.json").read_text())


@pytest.mark.parametrize("name", CASES)
def test_a_unet_trains_as_under_deepspeeds_own(name, told):
    assert_alike(name, *told[name])


@pytest.mark.parametrize("name", ON_TWO)
def test_so_it_does_on_two(name, told_by_two):
    assert_alike(name, *told_by_two[name], tolerance=ADDED_UP_TOLERANCE)


@pytest.mark.parametrize("name", ADDED_UP)
def test_two_sum_up_once_a_step(name, told_by_two):
    mine, _ = told_by_two[name]
    assert [bool(number) for number in mine["reduced"]] == ([False] * (ACCUMULATION - 1) + [True]) * STEPS


def assert_alike(name: str, mine: dict, theirs: dict, *, tolerance: float = TOLERANCE) -> None:
    assert mine["class"] == ("Stage3" if "stage 3" in name else "Stage1And2")
    assert theirs["class"].startswith("DeepSpeedZeroOptimizer")
    assert mine["updated"] == theirs["updated"] == [True, True, False, True, True]
    for part, near in (("losses", tolerance), ("norms", 10 * tolerance)):
        print(name, part, mine[part], theirs[part])
        assert mine[part] == pytest.approx(theirs[part], rel=near)
    assert len({round(loss, 6) for loss in mine["losses"]}) == len(mine["losses"])
