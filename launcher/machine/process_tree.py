"""Host memory of all processes of a run, look after look, at a price that training does not feel."""

import time
from collections.abc import Callable
from pathlib import Path

from launcher.machine.gpu_processes import has_driver_open
from launcher.machine.sample import TreeSample

MIB = 2**20
KIB_OF_MIB = 2**10
LOOKS = 3
"""How often a process that is none of them is asked: one that is just being started has its parent's environment."""
SHARED_EVERY = 5.0
SHARED_TIMES = 200.0
"""What the processes share is looked at no sooner than so many seconds later, and so many times what a look takes:
the kernel walks all of their pages for it, 10 ms for each GB."""
ZERO = b"/dev/zero (deleted)"
"""What CUDA allocates pinned (cudaHostAlloc) is mapped as this: seen with driver 580 on an H200. What is registered
afterwards (cudaHostRegister) is told nowhere."""


class ProcessTree:
    """Reads the processes that have one variable in their environment, wherever they were started from."""

    def __init__(
        self, variable: str, value: str, clock: Callable[[], float] = time.monotonic, proc: Path = Path("/proc")
    ) -> None:
        """Says which.

        Args:
            variable: its name.
            value: what it is.
            clock: seconds.
            proc: tests give their own.
        """
        self._mark, self._clock, self._proc = f"\0{variable}={value}\0".encode(), clock, proc
        self._own: set[int] = set()
        self._asked: dict[int, int] = {}
        """How often each of all the others was asked."""
        self._shared_mib = 0
        self._by_cuda_mib = 0
        self._look_again = 0.0

    def __call__(self) -> TreeSample:
        """All of them now."""
        self._find()
        told = [status for pid in self._own if (status := self._status(pid))]
        resident = sum(status["VmRSS"] for status in told) // KIB_OF_MIB
        if self._clock() >= self._look_again:
            self._look_closer(resident)
        locked = sum(status.get("VmLck", 0) + status.get("VmPin", 0) for status in told) // KIB_OF_MIB
        return TreeSample(len(told), max(resident - self._shared_mib, 0), locked + self._by_cuda_mib)

    def _find(self) -> None:
        """Asks new processes alone: a machine may have thousands."""
        there = {int(place.name) for place in self._proc.iterdir() if place.name.isdecimal()}
        self._own &= there
        self._asked = {pid: times for pid, times in self._asked.items() if pid in there}
        for pid in there - self._own:
            if self._asked.get(pid, 0) < LOOKS:
                self._asked[pid] = self._asked.get(pid, 0) + 1
                if self._mark in b"\0" + self._read(pid, "environ"):
                    self._own.add(pid)

    def _status(self, pid: int) -> dict[str, int]:
        """KiB by name; empty of a process that has ended, waited for or not."""
        lines = self._read(pid, "status").decode("utf-8", "replace").splitlines()
        told = (line.split() for line in lines if line.startswith("Vm"))
        found = {name.rstrip(":"): int(size) for name, size, *_ in told}
        return found if "VmRSS" in found else {}

    def _look_closer(self, resident: int) -> None:
        began = self._clock()
        kib = [self._proportional(pid) for pid in self._own]
        # Where one cannot be told, memory that is shared counts as often as it is.
        self._shared_mib = 0 if None in kib else max(resident - sum(filter(None, kib)) // KIB_OF_MIB, 0)
        self._by_cuda_mib = sum(self._allocated_pinned(pid) for pid in self._own if has_driver_open(pid)) // MIB
        took = self._clock() - began
        self._look_again = self._clock() + max(SHARED_EVERY, SHARED_TIMES * took)

    def _proportional(self, pid: int) -> int | None:
        """KiB, each page divided by how many processes have it (proc_pid_smaps(5)); None where it cannot be told."""
        for line in self._read(pid, "smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1])
        return None

    def _allocated_pinned(self, pid: int) -> int:
        """Bytes of a process that has NVIDIA's driver open."""
        places = (line.split()[0].split(b"-") for line in self._read(pid, "maps").splitlines() if line.endswith(ZERO))
        return sum(int(end, 16) - int(begin, 16) for begin, end in places)

    def _read(self, pid: int, name: str) -> bytes:
        try:
            return (self._proc / str(pid) / name).read_bytes()
        except OSError:  # ended, or somebody else's
            return b""
