"""What DeepSpeed is told of the CPU."""

import functools
from typing import Any

import cpuinfo

_get_all_cpu_info = cpuinfo.get_cpu_info


@functools.cache
def read_cpu_info() -> dict[str, Any]:
    """What py-cpuinfo knows of the CPU from the kernel, in 20 ms; where that tells no flags, all that it knows.

    DeepSpeed asks for it at every build and every CPU optimizer. Each time a process would be started that measures
    the clock by CPUID as well: 1.2 s.
    """
    cpuinfo.cpuinfo.DataSource.can_cpuid = False
    found = cpuinfo.cpuinfo._get_cpu_info_internal()
    return dict(found if "flags" in found else _get_all_cpu_info())


def patch_cpuinfo() -> None:
    """Puts :func:`read_cpu_info` in the place of ``cpuinfo.get_cpu_info``, which DeepSpeed imports at each use."""
    cpuinfo.get_cpu_info = read_cpu_info
