"""What the kernel tells of host memory that CUDA pins, as JSON: before, pinned by torch, registered, and given back.

python benchmarks/pinned_memory.py [--gib N]
"""

import argparse
import json
import os
import re
from collections import defaultdict
from pathlib import Path

import torch

from launcher.machine.gpu_processes import has_driver_open
from launcher.machine.host import read_memory

FIELDS = ("VmRSS", "RssAnon", "RssFile", "RssShmem", "VmLck", "VmPin", "VmSize", "VmHWM")
MAPPED = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)")


def status() -> dict[str, float]:
    """MiB of this process, by the kernel's names."""
    lines = Path("/proc/self/status").read_text().splitlines()
    told = {line.split(":")[0]: line.split() for line in lines}
    return {name: int(told[name][1]) / 1024 for name in FIELDS}


def rollup() -> dict[str, float]:
    """MiB of this process: what its pages are, one by one."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}


def mapped() -> dict[str, float]:
    """MiB of address space by what it is mapped from and how, where that is 64 MiB or more."""
    sizes: dict[str, float] = defaultdict(float)
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = MAPPED.match(line)
        if found:
            start, end, mode, name = found.groups()
            sizes[f"{name or 'anonymous'} {mode}"] += (int(end, 16) - int(start, 16)) / 2**20
    return {name: size for name, size in sorted(sizes.items()) if size >= 64}


def all_of_it() -> dict[str, object]:
    total, available = read_memory()
    return {
        "status": status(),
        "smaps_rollup": rollup(),
        "mapped": mapped(),
        "host": {"total_mib": total, "available_mib": available},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=int, default=2)
    count = parser.parse_args().gib * 2**30
    told: dict[str, object] = {"torch": torch.__version__, "pid": os.getpid()}
    torch.zeros(1, device="cuda")
    told["context"] = all_of_it()
    pinned = torch.zeros(count, dtype=torch.uint8, pin_memory=True)
    told["pin_memory"] = all_of_it()
    own = torch.zeros(count, dtype=torch.uint8)
    told["as_much_unpinned"] = all_of_it()
    failed = torch.cuda.cudart().cudaHostRegister(own.data_ptr(), count, 0)
    told["registered"] = all_of_it() | {"error": str(failed)}
    torch.cuda.cudart().cudaHostUnregister(own.data_ptr())
    del pinned, own
    told["given_back"] = all_of_it()
    told["has_driver_open"] = has_driver_open(os.getpid())
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
