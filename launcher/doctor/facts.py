"""Everything about a machine that is judged, read once. Judging it asks nothing any more, and tests make their own."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement

from launcher.doctor.asking import Asking
from launcher.machine.arch_list import VARIABLE
from launcher.machine.availability import NVIDIA, is_on_bus, torch_built_for
from launcher.machine.bandwidths import Bandwidths, known, this_hardware
from launcher.machine.build_locks import BuildLock
from launcher.machine.cache import cache_folder
from launcher.machine.cuda_toolkit import CudaToolkit, find_cuda_toolkit
from launcher.machine.disk import why_not_writable
from launcher.machine.gpus import Gpus, visible
from launcher.machine.host import Host, memory_mib
from launcher.machine.measuring import ToMeasure
from launcher.machine.nvml import cuda_of_driver
from launcher.machine.packages import installed_version
from launcher.machine.ports import is_free
from launcher.machine.probing import Answer
from launcher.machine.toolchain import Toolchain, extensions_folder
from launcher.preflight import Machine

MIB = 2**20
SHARED = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Package:
    """One that a launch needs."""

    name: str
    wanted: str
    """The versions this program was made for, as pip takes them."""
    installed: str | None
    is_tested: bool
    """Whether what is installed is one of them."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One machine; memory in MiB."""

    packages: tuple[Package, ...]
    deepspeed: str | None
    """Its version; None: it is not installed."""
    gpus: Gpus
    """Those that CUDA shows."""
    why_not_cuda: str | None
    """Why torch would train on another maker's accelerator, and is not let."""
    amd_is_idle: bool
    is_on_bus: bool
    """Whether the kernel sees a GPU of NVIDIA's, driver or not."""
    driver_cuda: str
    """The newest CUDA the driver runs; empty without one."""
    torch_cuda: str
    """The CUDA torch is built for; empty: none."""
    torch_hip: str
    """The ROCm torch is built for."""
    toolkit: CudaToolkit | None
    arch_list: str
    """``TORCH_CUDA_ARCH_LIST``."""
    toolchain: Toolchain
    missing_for_nvme: tuple[str, ...]
    extensions: Path
    """Where what is compiled lies."""
    locks: tuple[BuildLock, ...]
    device: Answer
    """Of ``launcher.probes.device``."""
    cpu_adam: Answer
    """Of ``launcher.probes.cpu_adam``, with ``untried`` or ``remembered`` in it."""
    host: Host
    machine_mib: int
    """Memory of the machine, of which a container may have less."""
    lockable_mib: int | None
    shared_mib: int | None
    """Size of /dev/shm; None: there is none."""
    speed: Bandwidths | None
    to_measure: ToMeasure
    unwritable: dict[Path, str]
    """Folders that are written outside of any run, and why they cannot be."""
    has_ports: bool
    """Whether any port can be listened at."""
    which: Callable[[str], str | None] = shutil.which


def read_facts(asking: Asking) -> Facts:
    """Reads this machine.

    Args:
        asking: has ended.
    """
    machine = Machine()  # asks what a launch asks too
    device, cpu_adam = asking.answers()
    toolchain, host, extensions = machine.toolchain(), machine.host(), extensions_folder()
    hardware = this_hardware(host.cores)
    written = (extensions, cache_folder("probes"))
    return Facts(
        packages=packages(),
        deepspeed=installed_version("deepspeed"),
        gpus=visible(machine.gpus(), os.environ.get("CUDA_VISIBLE_DEVICES")),
        why_not_cuda=machine.why_not_cuda(),
        amd_is_idle=machine.amd_is_idle(),
        is_on_bus=is_on_bus(NVIDIA),
        driver_cuda=cuda_of_driver(),
        torch_cuda=torch_built_for("cuda"),
        torch_hip=torch_built_for("hip"),
        toolkit=find_cuda_toolkit(),
        arch_list=os.environ.get(VARIABLE, ""),
        toolchain=toolchain,
        missing_for_nvme=machine.missing_for_nvme(toolchain),
        extensions=extensions,
        locks=asking.locks,
        device=device,
        cpu_adam=cpu_adam,
        host=host,
        machine_mib=memory_mib(),
        lockable_mib=machine.lockable_mib(),
        shared_mib=shutil.disk_usage(SHARED).total // MIB if SHARED.is_dir() else None,
        speed=known(hardware),
        to_measure=ToMeasure(hardware),
        unwritable={folder: reason for folder in written if (reason := why_not_writable(folder))},
        has_ports=is_free(0),
    )


def packages(distribution: str = "simpletuner-tui") -> tuple[Package, ...]:
    """What this program's own metadata says that it needs; nothing where it was never installed."""
    try:
        needed = [Requirement(text) for text in requires(distribution) or ()]
    except PackageNotFoundError:
        return ()
    return tuple(map(_package, (each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""}))))


def _package(needed: Requirement) -> Package:
    installed = installed_version(needed.name)
    tested = installed is not None and needed.specifier.contains(installed, prereleases=True)
    return Package(needed.name, str(needed), installed, tested)
