"""Host memory and cores, as far as this process may use them."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Host:
    """Memory in MiB."""

    total_mib: int
    available_mib: int
    cores: int
    """Physical cores this process may run on."""


def read_host(cgroup: Path = Path("/sys/fs/cgroup")) -> Host:
    """What the machine has, or what its container allows where that is less."""
    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    limit, used = _cgroup_memory(cgroup)
    if limit is not None and limit < total:
        total = limit
        available = min(available, max(limit - used, 0))
    return Host(total // MIB, available // MIB, _cores(cgroup))


def _cgroup_memory(cgroup: Path) -> tuple[int | None, int]:
    """Limit and use in bytes: cgroup v2 first, then v1; no limit is None."""
    for limit_file, use_file in (
        (cgroup / "memory.max", cgroup / "memory.current"),
        (cgroup / "memory" / "memory.limit_in_bytes", cgroup / "memory" / "memory.usage_in_bytes"),
    ):
        try:
            return int(limit_file.read_text()), int(use_file.read_text())
        except (OSError, ValueError):  # "max" stands for no limit
            continue
    return None, 0


def _cores(cgroup: Path) -> int:
    usable = len(os.sched_getaffinity(0))
    logical, physical = psutil.cpu_count(logical=True) or 1, psutil.cpu_count(logical=False) or 1
    cores = max(1, usable * physical // logical)
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores
