"""What is asked of the machine before a launch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.machine.gpus import Reader, read_nvml
from launcher.machine.host import Host, lockable_mib, read_host
from launcher.machine.nvme_drive import why_no_nvme_offload
from launcher.machine.toolchain import Toolchain, missing_for_nvme, read_toolchain


@dataclass(frozen=True, slots=True)
class Machine:
    """What is asked of the machine; tests give their own."""

    gpus: Reader = read_nvml
    host: Callable[[], Host] = read_host
    toolchain: Callable[[], Toolchain] = read_toolchain
    why_no_nvme_offload: Callable[[Path], str | None] = why_no_nvme_offload
    missing_for_nvme: Callable[[Toolchain], tuple[str, ...]] = missing_for_nvme
    lockable_mib: Callable[[], int | None] = lockable_mib
