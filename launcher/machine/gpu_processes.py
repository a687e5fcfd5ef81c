"""Which processes hold memory of a GPU, by NVML."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import psutil

MIB = 2**20


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
    """The processes on a GPU of this machine.

    None where NVML does not say what each of them holds, as under WSL, or does not show those of others, as in most
    containers.

    Args:
        uuid: of the GPU.
    """
    import pynvml  # noqa: PLC0415 - loads the driver's library: only when GPUs are asked for

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
        found = (GpuProcess(pid, _name(pid), size // MIB) for pid, size in _held(pynvml, handle).items())
        return tuple(sorted(found, key=lambda process: -process.mib))
    except pynvml.NVMLError:
        return ()
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _held(pynvml: Any, handle: Any) -> dict[int, int]:
    """Bytes by pid; a process that computes and draws is told twice, each time with all that it holds."""
    held: dict[int, int] = {}
    for listed in (pynvml.nvmlDeviceGetComputeRunningProcesses, pynvml.nvmlDeviceGetGraphicsRunningProcesses):
        with suppress(pynvml.NVMLError):  # not every card draws
            for process in listed(handle):
                if process.usedGpuMemory is not None:
                    held[process.pid] = max(process.usedGpuMemory, held.get(process.pid, 0))
    return held


def _name(pid: int) -> str:
    try:
        return psutil.Process(pid).name()
    except psutil.Error:
        return ""
