"""GPUs look after look: the module that asks the driver is the only thing made up here."""

import os
from dataclasses import fields
from pathlib import Path

import pytest

from harness.nvml import (
    DRIVER_NOT_LOADED,
    FUNCTION_NOT_FOUND,
    GPU_IS_LOST,
    LIBRARY_NOT_FOUND,
    MIB,
    NO_PERMISSION,
    NOT_SUPPORTED,
    RESET_REQUIRED,
    UNINITIALIZED,
    UNKNOWN_ERROR,
    card,
    memory,
    part,
    process,
)
from launcher.machine import gpu_processes
from launcher.machine.nvml_sample import AGAIN, NvmlReader
from launcher.machine.sample import GpuSample, Unknown

OFF_THE_BUS = "it has fallen off the bus; the machine has to be restarted"


def figures(sample: GpuSample) -> dict[str, object]:
    names = [field.name for field in fields(sample)]
    return {name: getattr(sample, name) for name in names if name not in ("index", "uuid", "name", "lost")}


def test_a_card_tells_all_there_is(nvml):
    nvml(card(computing=[process(os.getpid(), 900)], reasons=0x4))
    (gpu,) = NvmlReader()().gpus
    mine = gpu.processes[0]
    assert (mine.pid, mine.mib) == (os.getpid(), 900)
    assert gpu == GpuSample(
        index=0, uuid="GPU-00-beef", name="NVIDIA GeForce RTX 4090",
        total_mib=24564, used_mib=948, reserved_mib=616, utilisation=87, temperature=64, power_w=412.345,
        power_limit_w=450.0, clock_mhz=2520, memory_clock_mhz=10501, throttled=("at its power limit",), ecc_errors=0,
        received_mib_s=20.0, sent_mib_s=1.0, processes=(mine,),
    )  # fmt: skip


def test_eight_cards_are_told_in_their_order(nvml):
    nvml(*(card(number) for number in range(8)))
    found = NvmlReader()()
    assert [(gpu.index, gpu.uuid) for gpu in found.gpus] == [(n, f"GPU-{n}{n}-beef") for n in range(8)]
    assert found.none == ""


def test_the_driver_is_opened_once(nvml):
    fake = nvml(card())
    read = NvmlReader()
    assert fake.calls == []
    for _ in range(3):
        read()
    assert fake.calls.count("nvmlInit") == 1 and "nvmlShutdown" not in fake.calls


@pytest.mark.parametrize(
    ("call", "figure", "code", "reason"),
    [
        ("TotalEccErrors", "ecc_errors", NOT_SUPPORTED, "not supported on this card"),
        ("UtilizationRates", "utilisation", NOT_SUPPORTED, "not supported on this card"),
        ("PowerUsage", "power_w", NO_PERMISSION, "not allowed for this user"),
        ("EnforcedPowerLimit", "power_limit_w", FUNCTION_NOT_FOUND, "needs a newer driver"),
        ("PcieThroughput", "sent_mib_s", FUNCTION_NOT_FOUND, "needs a newer driver"),
        ("ClockInfo", "clock_mhz", UNKNOWN_ERROR, "the driver fails (Unknown Error)"),
        ("ComputeRunningProcesses_v3", "processes", FUNCTION_NOT_FOUND, "needs a newer driver"),
        ("MemoryInfo", "used_mib", NOT_SUPPORTED, "not supported on this card"),
    ],
)
def test_what_a_driver_does_not_tell_is_unknown_for_a_reason_and_the_rest_is_told(nvml, call, figure, code, reason):
    nvml(card(**{call: code}), card(1))
    gpu, other = NvmlReader()().gpus
    assert getattr(gpu, figure) == Unknown(reason)
    assert gpu.temperature == 64 and not gpu.lost
    assert not any(isinstance(value, Unknown) for value in figures(other).values())


def test_an_older_driver_does_not_tell_the_reserve_apart(nvml):
    older = dict.fromkeys(("TemperatureV", "CurrentClocksEventReasons"), FUNCTION_NOT_FOUND)
    nvml(card(v2=False, reasons=0x20, **older))
    (gpu,) = NvmlReader()().gpus
    assert (gpu.used_mib, gpu.reserved_mib) == (1564, Unknown("needs a newer driver"))
    assert (gpu.temperature, gpu.throttled) == (63, ("too hot",))


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x1, ()),
        (0x4 | 0x20, ("too hot", "at its power limit")),
        (0x8 | 0x40, ("too hot: the hardware slows it down",)),
        (0x8, ("the hardware slows it down",)),
    ],
)
def test_why_clocks_are_held_down_is_told_in_words(nvml, bits, words):
    nvml(card(reasons=bits))
    assert NvmlReader()().gpus[0].throttled == words


# none


def test_without_a_driver_there_is_no_gpu_and_it_is_tried_again_later(nvml):
    fake, now = nvml(fails=LIBRARY_NOT_FOUND), [0.0]
    read = NvmlReader(clock=lambda: now[0])
    for _ in range(3):
        found = read()
        assert (found.gpus, found.none) == ((), "no NVIDIA driver answers (NVML Shared Library Not Found)")
    assert fake.calls == ["nvmlInit"]
    now[0] = AGAIN
    nvml(card())
    assert len(read().gpus) == 1


def test_a_machine_without_cards_says_so(nvml):
    nvml()
    assert NvmlReader()().none == "the NVIDIA driver finds no GPU"


@pytest.mark.parametrize("died", [UNINITIALIZED, DRIVER_NOT_LOADED])
def test_a_driver_that_dies_is_opened_anew(nvml, died):
    fake = nvml(card())
    read = NvmlReader()
    read()
    fake.fails = died
    assert read().none.startswith("the NVIDIA driver does not answer any more")
    fake.fails = 0
    assert len(read().gpus) == 1
    assert fake.calls.count("nvmlInit") == 2


# lost


@pytest.mark.parametrize(("code", "why"), [(GPU_IS_LOST, OFF_THE_BUS), (RESET_REQUIRED, "it has to be reset")])
def test_a_gpu_that_falls_off_the_bus_stays_in_sight_and_the_others_go_on(nvml, code, why):
    cards = [card(0), card(1), card(2)]
    nvml(*cards)
    read = NvmlReader()
    read()
    cards[1].lost = code
    for _ in range(2):
        first, lost, last = read().gpus
        assert (lost.index, lost.uuid, lost.name) == (1, "GPU-11-beef", "NVIDIA GeForce RTX 4090")
        assert lost.lost.startswith(why)
        assert set(figures(lost).values()) == {Unknown(lost.lost)}
        assert (first.temperature, last.temperature) == (64, 64)


def test_a_gpu_that_a_new_driver_does_not_find_stays_in_sight(nvml):
    fake = nvml(card(0), card(1))
    read = NvmlReader()
    read()
    fake.fails = UNINITIALIZED
    read()
    fake.fails = 0
    fake.cards.pop()
    here, gone = read().gpus
    assert not here.lost
    assert (gone.uuid, gone.lost) == (
        "GPU-11-beef",
        "the driver does not find it any more; the machine has to be restarted",
    )


def test_a_gpu_that_was_lost_before_has_its_number_alone(nvml):
    nvml(card(0), card(1, lost=GPU_IS_LOST))
    here, lost = NvmlReader()().gpus
    assert not here.lost
    assert (lost.index, lost.uuid, lost.lost) == (1, "", OFF_THE_BUS)


def test_a_gpu_of_another_container_is_not_told(nvml):
    nvml(card(0, HandleByIndex=NO_PERMISSION), card(1))
    assert [gpu.index for gpu in NvmlReader()().gpus] == [1]


# MIG


def test_the_parts_of_a_divided_gpu_are_told_below_it(nvml):
    nvml(card(0), card(1, parts=[part(0, of=1), part(1, of=1, computing=[process(os.getpid(), 700)])]))
    whole, divided, first, second = NvmlReader()().gpus
    assert (divided.utilisation, divided.temperature) == (Unknown("not told of a GPU that is divided (MIG)"), 64)
    assert whole.utilisation == 87
    assert (first.index, first.uuid, first.total_mib, first.used_mib) == (1, "MIG-10-cafe", 4864, 948)
    assert first.utilisation == divided.utilisation
    assert first.temperature == first.power_w == first.sent_mib_s == Unknown("told of the whole GPU alone")
    assert [each.mib for each in second.processes] == [700]


def test_a_gpu_that_is_divided_no_more_has_no_parts(nvml):
    gpu = card(0, parts=[part(0), part(1)])
    nvml(gpu)
    read = NvmlReader()
    assert len(read().gpus) == 3
    gpu.parts = []
    (whole,) = read().gpus
    assert whole.utilisation == 87


def test_the_parts_of_a_lost_gpu_are_lost_with_it(nvml):
    gpu = card(0, parts=[part(0), part(1)])
    nvml(gpu)
    read = NvmlReader()
    read()
    gpu.lost = GPU_IS_LOST
    assert [(each.uuid, each.lost) for each in read().gpus] == [
        (uuid, OFF_THE_BUS) for uuid in ("GPU-00-beef", "MIG-00-cafe", "MIG-01-cafe")
    ]


# which


@pytest.mark.parametrize(
    ("names", "first", "uuids"),
    [
        ("2,0", None, ["GPU-22-beef", "GPU-00-beef"]),
        ("2,0", 1, ["GPU-22-beef"]),
        (None, 2, ["GPU-00-beef", "GPU-11-beef", "MIG-10-cafe"]),
        ("MIG-10-cafe", 1, ["MIG-10-cafe"]),
        ("GPU-22", 1, ["GPU-22-beef"]),
    ],
)
def test_only_the_gpus_that_are_wanted_are_asked(nvml, names, first, uuids):
    fake = nvml(card(0), card(1, parts=[part(0, of=1)]), card(2))
    assert [gpu.uuid for gpu in NvmlReader(names, first)().gpus] == uuids
    assert fake.calls.count("nvmlDeviceGetMemoryInfo") == len(uuids)


def test_gpus_that_are_hidden_are_not_there(nvml):
    fake = nvml(card(0), card(1))
    assert NvmlReader("7")().none == "CUDA_VISIBLE_DEVICES=7 hides all 2 of them"
    fake.calls.clear()
    assert NvmlReader("")().none == "CUDA_VISIBLE_DEVICES shows none"
    assert fake.calls == []


# processes


@pytest.fixture
def in_container(monkeypatch, nvml):
    monkeypatch.setattr(gpu_processes, "in_container", lambda: True)
    return nvml


NOWHERE = 2**22 + 1
"""No pid."""


@pytest.mark.parametrize("seen", [[], [process(NOWHERE, 900)], [process(os.getpid(), 900)]])
def test_in_a_container_the_hosts_processes_are_not_visible(in_container, seen):
    in_container(card(computing=seen))
    (gpu,) = NvmlReader()().gpus
    assert gpu.processes == Unknown("not visible in this container")
    assert gpu.used_mib == 948


def test_in_a_container_a_gpu_that_nobody_uses_has_no_processes(in_container):
    idle = card()
    idle.v2 = memory(24564, 23940, 8)
    in_container(idle)
    assert NvmlReader()().gpus[0].processes == ()


def test_in_a_container_a_process_that_has_the_driver_open_is_its_own(in_container, monkeypatch):
    monkeypatch.setattr(gpu_processes, "has_driver_open", lambda pid: pid == os.getpid())
    in_container(card(computing=[process(os.getpid(), 700), process(1, 200)]))
    assert [each.pid for each in NvmlReader()().gpus[0].processes] == [os.getpid()]


def test_whoever_has_the_driver_open_is_found_by_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_processes, "DRIVER", str(tmp_path / "nvidia"))
    assert not gpu_processes.has_driver_open(os.getpid())
    with (tmp_path / "nvidiactl").open("w"):
        assert gpu_processes.has_driver_open(os.getpid())
    assert not gpu_processes.has_driver_open(NOWHERE)


def test_pids_are_the_machines_own_in_its_first_namespace_alone(monkeypatch):
    here = Path("/proc/self/ns/pid").stat().st_ino
    for first, inside in ((here, False), (here + 1, True)):
        monkeypatch.setattr(gpu_processes, "FIRST_NAMESPACE", first)
        assert gpu_processes.in_container() is inside


@pytest.mark.parametrize("card_there", [card(computing=[process(1, None)]), card(), card(ComputeRunningProcesses_v3=3)])
def test_under_wsl_nobody_knows_what_each_process_holds(nvml, monkeypatch, card_there):
    monkeypatch.setattr(gpu_processes, "is_wsl", lambda: True)
    nvml(card_there)
    assert NvmlReader()().gpus[0].processes == Unknown("Windows does not tell WSL what each process holds")


def test_elsewhere_a_driver_may_not_tell_it_either(nvml):
    nvml(card(computing=[process(1, None)]))
    assert NvmlReader()().gpus[0].processes == Unknown("the driver does not tell what each process holds")


def test_memory_is_told_in_whole_mib(nvml):
    odd = card()
    odd.v2.used += MIB - 1
    nvml(odd)
    assert NvmlReader()().gpus[0].used_mib == 949, "rounded, as nvidia-smi prints it"
