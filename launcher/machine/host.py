"""Host memory and cores, as far as this process may use them."""

import os
import resource
from collections.abc import Iterator
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


CGROUP = Path("/sys/fs/cgroup")


def read_host(cgroup: Path = CGROUP) -> Host:
    """What the machine has, or what its container allows where that is less."""
    return Host(*read_memory(cgroup), _cores(cgroup))


def read_memory(cgroup: Path = CGROUP) -> tuple[int, int]:
    """Total and available MiB of it."""
    memory = psutil.virtual_memory()
    total, available = memory.total, memory.available
    limit, used = _cgroup_memory(cgroup)
    if limit is not None and limit < total:
        total = limit
        available = min(available, max(limit - used, 0))
    return total // MIB, available // MIB


def memory_mib() -> int:
    """What the machine has, whatever its container allows."""
    return int(psutil.virtual_memory().total) // MIB


def lockable_mib(status: Path = Path("/proc/self/status")) -> int | None:
    """Memory that a process of this user may lock; None where there is no limit."""
    limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit == resource.RLIM_INFINITY or _may_lock_all(status):
        return None
    return limit // MIB


def _may_lock_all(status: Path) -> bool:
    """Whether it has CAP_IPC_LOCK, bit 14 of capabilities(7): the limit does not hold then."""
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return bool(int(lines["CapEff"], 16) >> 14 & 1)


def _cgroup_memory(cgroup: Path) -> tuple[int | None, int]:
    """Limit and use in bytes: cgroup v2 first, then v1; no limit is None."""
    v1 = cgroup / "memory"
    for limit_file, use_file, stat_file, cache in (
        (cgroup / "memory.max", cgroup / "memory.current", cgroup / "memory.stat", "inactive_file"),
        (v1 / "memory.limit_in_bytes", v1 / "memory.usage_in_bytes", v1 / "memory.stat", "total_inactive_file"),
    ):
        try:
            limit, used = int(limit_file.read_text()), int(use_file.read_text())
        except (OSError, ValueError):  # "max" stands for no limit
            continue
        return limit, max(used - _statistic(stat_file, cache), 0)
    return None, 0


def oom_kills(
    cgroup: Path = CGROUP, own: Path = Path("/proc/self/cgroup"), machine: Path = Path("/proc/vmstat")
) -> int | None:
    """Processes that the kernel killed for memory so far, of this process's cgroup; else of the machine.

    None where nobody counts them.
    """
    for file in (*_oom_counters(cgroup, own), machine):
        try:
            counted = [int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill ")]
        except (OSError, ValueError, LookupError):
            continue
        if counted:
            return counted[0]
    return None


def _oom_counters(cgroup: Path, own: Path) -> Iterator[Path]:
    """Of cgroup v2 and v1, each as the host sees it and as a container does."""
    try:
        lines = [line.split(":", 2) for line in own.read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in lines:
        if not controllers:
            yield from (cgroup / place.strip("/") / "memory.events" for place in (path, ""))
        elif "memory" in controllers.split(","):
            yield from (cgroup / "memory" / place.strip("/") / "memory.oom_control" for place in (path, ""))


def _statistic(file: Path, name: str) -> int:
    """Bytes of one kind: files that were read count as used, and are given up before anything fails."""
    try:
        return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.split()[0] == name)
    except (OSError, ValueError, LookupError, StopIteration):
        return 0


def _cores(cgroup: Path) -> int:
    usable = len(os.sched_getaffinity(0))
    logical = psutil.cpu_count(logical=True) or 1
    cores = physical_share(usable, logical, psutil.cpu_count(logical=False))
    quota = _cgroup_cores(cgroup)
    return cores if quota is None else max(1, min(cores, quota))


def physical_share(usable: int, logical: int, physical: int | None) -> int:
    """Physical cores behind the logical ones a process may use; every one counts where nobody knows."""
    return max(1, usable * (physical or logical) // logical)


def _cgroup_cores(cgroup: Path) -> int | None:
    """Whole cores that a container's quota pays for: cgroup v2 first, then v1; no quota is None."""
    v1 = cgroup / "cpu"
    for files in ((cgroup / "cpu.max",), (v1 / "cpu.cfs_quota_us", v1 / "cpu.cfs_period_us")):
        try:
            quota, period = map(int, " ".join(file.read_text() for file in files).split())
            if quota > 0:  # -1 stands for none in v1, as "max" does in v2
                return quota // period
        except (OSError, ValueError, ZeroDivisionError):
            continue
    return None
