"""Which processes hold memory of a GPU, by NVML."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from launcher.machine.nvml import MIB, DriverError, Handle, Nvml, NvmlError, RefusedError
from launcher.machine.sample import Figure, Unknown

CONTEXT_MIB = 64
"""Less than any CUDA context takes, and more than a GPU shows as used where nobody uses it."""
FIRST_NAMESPACE = 0xEFFFFFFC
"""The inode of the machine's own pid namespace, ``PROC_PID_INIT_INO`` of the kernel; a container has another."""
DRIVER = "/dev/nvidia"
"""What the names of its devices begin with."""
IN_CONTAINER = Unknown("not visible in this container")
UNDER_WSL = Unknown("Windows does not tell WSL what each process holds")


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """One process, and what it holds of one GPU."""

    pid: int
    name: str
    """Of its program; empty where it cannot be told."""
    mib: int


class ProcessReader(Protocol):
    """Reads who holds a GPU; the real one asks NVML, tests give their own."""

    def __call__(self, uuid: str) -> tuple[GpuProcess, ...]:
        """Those whose share is known, the largest first; never raises."""


def read_processes(uuid: str) -> tuple[GpuProcess, ...]:
    """The processes on a GPU of this machine; none where it cannot be told what each of them holds.

    Args:
        uuid: of the GPU.
    """
    try:
        nvml = Nvml()
    except DriverError:
        return ()
    try:
        handle = nvml.handle(uuid)
        found = processes_on(nvml, handle, nvml.memory(handle).used_mib)
        return () if isinstance(found, Unknown) else found
    except NvmlError:
        return ()
    finally:
        nvml.close()


def processes_on(nvml: Nvml, device: Handle, used_mib: Figure) -> tuple[GpuProcess, ...] | Unknown:
    """Who holds how much of a GPU, the largest first, or why that cannot be told.

    Args:
        nvml: the driver.
        device: the GPU, or a part of one.
        used_mib: of it, by processes: where there is much and nobody is seen to hold it, somebody is hidden.

    Raises:
        DriverError: the driver does not answer any more.
        LostError: nor does the GPU.
    """
    try:
        told = nvml.held(device)
    except RefusedError as error:
        return UNDER_WSL if is_wsl() else Unknown(error.reason)
    held = {pid: size for pid, size in told.items() if size is not None}
    is_used = isinstance(used_mib, Unknown) or used_mib > CONTEXT_MIB
    if told and not held:
        return UNDER_WSL if is_wsl() else Unknown("the driver does not tell what each process holds")
    if not held and is_used and is_wsl():
        return UNDER_WSL
    if in_container():
        # The host's pids may be those of other processes here: only one that has the driver open can be meant.
        seen = {pid: size for pid, size in held.items() if has_driver_open(pid)}
        if not seen and (held or is_used):
            return IN_CONTAINER
        held = seen
    found = (GpuProcess(pid, _name(pid), size // MIB) for pid, size in held.items())
    return tuple(sorted(found, key=lambda process: -process.mib))


def in_container() -> bool:
    """Whether pids here are others than those of the machine, which the driver knows."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino != FIRST_NAMESPACE
    except OSError:  # a sandbox with a /proc of its own
        return True


def is_wsl() -> bool:
    """Whether Windows runs this Linux, and manages the memory of its GPUs."""
    return "microsoft" in os.uname().release.lower()


def has_driver_open(pid: int) -> bool:
    """Whether a process has opened NVIDIA's driver; not, where that may not be known."""
    try:
        return any(_leads_to_driver(file) for file in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


def _leads_to_driver(file: Path) -> bool:
    try:
        return str(file.readlink()).startswith(DRIVER)
    except OSError:  # closed meanwhile
        return False


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""
