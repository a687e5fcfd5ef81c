"""Ports, the driver's CUDA, what is on the bus, and how a package is installed."""

import socket

import pytest

from harness.nvml import LIBRARY_NOT_FOUND, UNKNOWN_ERROR, card
from launcher.machine.availability import NVIDIA, is_on_bus
from launcher.machine.installing import install_command
from launcher.machine.nvml import cuda_of_driver
from launcher.machine.ports import is_free


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_port_at_which_somebody_listens_is_not_free(address):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listening:
        listening.bind((address, 0))
        port = listening.getsockname()[1]
        listening.listen(1)
        assert not is_free(port)
    assert is_free(port)
    assert is_free(0)


def test_the_drivers_cuda_is_read_and_a_machine_without_one_has_none(nvml):
    fake = nvml(card())
    assert cuda_of_driver() == "12.8"
    assert fake.calls == ["nvmlInit", "nvmlSystemGetCudaDriverVersion_v2", "nvmlShutdown"]
    nvml(card(), SystemGetCudaDriverVersion_v2=UNKNOWN_ERROR)
    assert cuda_of_driver() == ""
    nvml(fails=LIBRARY_NOT_FOUND)
    assert cuda_of_driver() == ""


@pytest.mark.parametrize(
    ("kind", "vendor", "there"),
    [("0x030000", NVIDIA, True), ("0x020000", NVIDIA, False), ("0x030200", "0x8086", False)],
)
def test_a_gpu_on_the_bus_is_seen_without_a_driver(tmp_path, kind, vendor, there):
    device = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    device.mkdir(parents=True)
    (device / "class").write_text(f"{kind}\n")
    (device / "vendor").write_text(f"{vendor}\n")
    assert is_on_bus(NVIDIA, tmp_path) is there
    assert not is_on_bus(NVIDIA, tmp_path / "none")


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "apt install g++ python3-dev ninja-build libaio-dev"),
        ("dnf", "dnf install gcc-c++ python3-devel ninja-build libaio-devel"),
        ("yum", "yum install gcc-c++ python3-devel ninja-build libaio-devel"),
        ("zypper", "zypper install gcc-c++ python3-devel ninja libaio-devel"),
        ("pacman", "pacman -S gcc python ninja libaio"),
        ("apk", "apk add g++ python3-dev ninja-build libaio-dev"),
        (None, "apt install g++ python3-dev ninja-build libaio-dev"),
    ],
)
def test_each_distribution_has_its_own_words(manager, command):
    which = {manager: f"/usr/bin/{manager}"}.get
    packages = ("g++", "python3-dev", "ninja-build", "libaio-dev")
    assert install_command(packages, which, root=True) == command
    assert install_command(packages, which, root=False) == f"sudo {command}"
