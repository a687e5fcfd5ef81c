"""A machine in which a doctor finds nothing wrong: two H200s, everything installed, measured."""

from pathlib import Path

from harness.h200 import H200_OF_TWO
from launcher.doctor.facts import Facts, Package
from launcher.machine.cuda_toolkit import CudaToolkit
from launcher.machine.gpus import Gpu, Gpus
from launcher.machine.host import Host
from launcher.machine.measuring import ToMeasure
from launcher.machine.probing import Answer
from launcher.machine.toolchain import Toolchain

GIB = 1024
DEBIAN = {"apt-get": "/usr/bin/apt-get"}


def h200(index: int, free_mib: int = 143_155) -> Gpu:
    return Gpu(index, f"GPU-{index}", "NVIDIA H200", 143_771, free_mib, 0)


def device(**changed: object) -> Answer:
    """What ``launcher.probes.device`` tells of them."""
    each = {"capability": "9.0", "failure": ""}
    told = {"torch": "2.13.0+cu130", "failure": "", "devices": [each, each], "architectures": ["sm_80", "sm_90"]}
    return Answer({**told, "pinned_mib": 1024, **changed})


def adam(**changed: object) -> Answer:
    """What ``launcher.probes.cpu_adam`` tells where it was compiled anew."""
    return Answer({"failure": "", "seconds": 61.4, "difference": 7.2e-7, **changed})


HEALTHY = Facts(
    packages=(
        Package("torch", "torch>=2.11", "2.13.0+cu130", True),
        Package("deepspeed", "deepspeed<0.20,>=0.19.8", "0.19.8", True),
    ),
    deepspeed="0.19.8",
    gpus=Gpus((h200(0), h200(1)), driver="580.95.05"),
    why_not_cuda=None,
    amd_is_idle=False,
    is_on_bus=True,
    driver_cuda="13.0",
    torch_cuda="13.0",
    torch_hip="",
    toolkit=CudaToolkit(Path("/usr/local/cuda"), "13.0"),
    arch_list="",
    toolchain=Toolchain("/usr/bin/c++", True, "/venv/bin/ninja"),
    missing_for_nvme=(),
    extensions=Path("/venv/torch_extensions"),
    locks=(),
    device=device(),
    cpu_adam=adam(),
    host=Host(256 * GIB, 250 * GIB, 32),
    machine_mib=256 * GIB,
    lockable_mib=None,
    shared_mib=128 * GIB,
    speed=H200_OF_TWO,
    to_measure=ToMeasure(H200_OF_TWO.hardware),
    unwritable={},
    has_ports=True,
    which=DEBIAN.get,
)
