"""GPUs as NVML tells of them; the module that asks the driver is the only thing made up here."""

import os
from dataclasses import dataclass

import psutil
import pytest

from harness.nvml import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    LIBRARY_NOT_FOUND,
    UNKNOWN_ERROR,
    card,
    process,
)
from launcher.machine.gpu_processes import GpuProcess, read_processes
from launcher.machine.gpus import Gpu, Gpus, read_nvml, shown_of, visible


def test_a_card_is_told_in_mib_without_what_the_driver_keeps_for_itself(nvml):
    fake = nvml(card())
    assert list(read_nvml().gpus) == [Gpu(0, "GPU-00-beef", "NVIDIA GeForce RTX 4090", 24564, 23000, 948)]
    assert read_nvml().driver == "580.159.04"
    assert fake.calls.count("nvmlInit") == fake.calls.count("nvmlShutdown") == 2


def test_an_older_driver_is_asked_by_the_first_call(nvml):
    nvml(card(v2=False))
    (gpu,) = read_nvml().gpus
    assert (gpu.total_mib, gpu.free_mib, gpu.used_mib) == (24564, 23000, 1564)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("NVIDIA H100 80GB HBM3", "NVIDIA H100 80GB HBM3"),
        (b"Tesla V100-SXM2-16GB", "Tesla V100-SXM2-16GB"),
        (b"\xff odd", "� odd"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"),
    ],
)
def test_names_are_text_whatever_the_driver_gives(nvml, name, shown):
    nvml(card(name=name))
    assert read_nvml().gpus[0].name == shown


def test_several_cards_are_told_by_index(nvml):
    nvml(card(0), card(1, "NVIDIA RTX A4000"))
    assert [(gpu.index, gpu.name) for gpu in read_nvml().gpus] == [
        (0, "NVIDIA GeForce RTX 4090"),
        (1, "NVIDIA RTX A4000"),
    ]


def test_no_driver_is_no_gpu_and_says_why(nvml):
    fake = nvml(fails=LIBRARY_NOT_FOUND)
    assert read_nvml() == Gpus((), "no NVIDIA driver answers (NVML Shared Library Not Found)")
    assert fake.calls == ["nvmlInit"]


def test_a_machine_without_cards_has_none(nvml):
    nvml()
    assert (list(read_nvml().gpus), read_nvml().reason) == ([], "the NVIDIA driver finds no GPU")


@pytest.mark.parametrize("shutdown", [0, DRIVER_NOT_LOADED])
def test_a_driver_that_fails_midway_is_no_gpu_and_says_why(nvml, shutdown):
    fake = nvml(card(), card(lost=GPU_IS_LOST), Shutdown=shutdown)
    assert read_nvml() == Gpus((), "the NVIDIA driver fails (GPU is lost)")
    assert fake.calls[-1] == "nvmlShutdown"
    nvml(card(), DeviceGetCount=UNKNOWN_ERROR, Shutdown=shutdown)
    assert read_nvml().reason == "the NVIDIA driver fails (Unknown Error)"


# who holds their memory


def test_processes_are_told_with_their_names_the_largest_first(nvml):
    mine, parent = os.getpid(), os.getppid()
    nvml(card(), card(1, computing=[process(mine, 300)], drawing=[process(parent, 900)]))
    found = read_processes("GPU-11-beef")
    assert [(each.pid, each.mib) for each in found] == [(parent, 900), (mine, 300)]
    assert found[1].name == psutil.Process(mine).name()
    assert read_processes("GPU-00-beef") == ()


def test_a_process_that_computes_and_draws_is_told_once(nvml):
    nvml(card(computing=[process(1, 500)], drawing=[process(1, 500)]))
    assert [each.mib for each in read_processes("GPU-00-beef")] == [500]


def test_a_card_that_draws_nothing_tells_who_computes(nvml):
    nvml(card(computing=[process(1, 500)], drawing=None))
    assert [each.mib for each in read_processes("GPU-00-beef")] == [500]


def test_a_process_that_is_gone_or_elsewhere_has_no_name(nvml):
    nvml(card(computing=[process(2**22 + 1, 500)]))
    assert read_processes("GPU-00-beef") == (GpuProcess(2**22 + 1, "", 500),)


def test_where_nobody_knows_what_each_holds_nobody_is_named(nvml):
    nvml(card(computing=[process(1, None)]))
    assert read_processes("GPU-00-beef") == ()
    nvml(fails=LIBRARY_NOT_FOUND)
    assert read_processes("GPU-00-beef") == ()


# what CUDA shows of them


CARDS = Gpus([Gpu(n, f"GPU-{n}{n}-beef", "a", 1, 1, 0) for n in range(4)])


@pytest.mark.parametrize(
    ("devices", "indices"),
    [
        (None, [0, 1, 2, 3]),
        ("2", [2]),
        ("3, 1", [3, 1]),
        ("GPU-22-beef", [2]),
        ("GPU-1,0", [1, 0]),
        ("1,9,2", [1]),
        ("MIG-4f3a", [0, 1, 2, 3]),
    ],
)
def test_cuda_shows_the_devices_that_the_environment_names(devices, indices):
    assert [gpu.index for gpu in visible(CARDS, devices).gpus] == indices


@pytest.mark.parametrize("devices", ["", "-1", "9", "GPU-", "NoDevFiles"])
def test_devices_that_are_hidden_are_not_there_and_it_is_said_why(devices):
    assert visible(CARDS, devices) == Gpus([], f"CUDA_VISIBLE_DEVICES={devices} hides all 4 of them")


@dataclass(frozen=True)
class Named:
    index: int
    uuid: str


DIVIDED = [Named(0, "GPU-00-beef"), Named(1, "GPU-11-beef"), Named(1, "MIG-10-cafe"), Named(1, "MIG-11-cafe")]


@pytest.mark.parametrize(
    ("devices", "uuids"),
    [
        (None, ["GPU-00-beef", "GPU-11-beef", "MIG-10-cafe", "MIG-11-cafe"]),
        ("0", ["GPU-00-beef"]),
        ("MIG-11-cafe", ["MIG-11-cafe"]),
        ("MIG-1", []),
        ("1", ["GPU-11-beef", "MIG-10-cafe", "MIG-11-cafe"]),
        ("GPU-11", ["GPU-11-beef", "MIG-10-cafe", "MIG-11-cafe"]),
    ],
)
def test_a_part_of_a_gpu_is_named_by_itself_or_comes_with_its_gpu(devices, uuids):
    assert [device.uuid for device in shown_of(DIVIDED, devices)] == uuids


def test_without_cards_the_first_reason_stays():
    assert visible(Gpus((), "no driver"), "0").reason == "no driver"
