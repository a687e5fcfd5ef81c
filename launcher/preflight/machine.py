"""What is asked of the machine before a launch."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.machine.availability import has_package
from launcher.machine.cuda_only import amd_is_idle, why_not_cuda
from launcher.machine.cuda_toolkit import find_cuda_toolkit, why_not_compiled_for_gpus
from launcher.machine.disk import free_bytes
from launcher.machine.gpu_processes import ProcessReader, read_processes
from launcher.machine.gpus import Reader, read_nvml
from launcher.machine.host import Host, lockable_mib, read_host
from launcher.machine.nvme_drive import why_no_nvme_offload
from launcher.machine.ports import is_free
from launcher.machine.toolchain import Toolchain, missing_for_nvme, read_toolchain


def _why_not_compiled_for_gpus() -> str | None:
    return why_not_compiled_for_gpus(find_cuda_toolkit())


@dataclass(frozen=True, slots=True)
class Machine:
    """What is asked of the machine; tests give their own."""

    gpus: Reader = read_nvml
    gpu_processes: ProcessReader = read_processes
    has_package: Callable[[str], bool] = has_package
    which: Callable[[str], str | None] = shutil.which
    why_not_cuda: Callable[[], str | None] = why_not_cuda
    amd_is_idle: Callable[[], bool] = amd_is_idle
    host: Callable[[], Host] = read_host
    free_bytes: Callable[[Path], int] = free_bytes
    toolchain: Callable[[], Toolchain] = read_toolchain
    why_no_nvme_offload: Callable[[Path], str | None] = why_no_nvme_offload
    missing_for_nvme: Callable[[Toolchain], tuple[str, ...]] = missing_for_nvme
    lockable_mib: Callable[[], int | None] = lockable_mib
    why_not_compiled_for_gpus: Callable[[], str | None] = _why_not_compiled_for_gpus
    is_free: Callable[[int], bool] = is_free
