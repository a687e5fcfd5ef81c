"""One look at the machine: GPUs, host, disks and, where one is watched, a run's processes."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from launcher.machine.host import read_host, read_memory
from launcher.machine.nvml_sample import NvmlReader
from launcher.machine.sample import DiskSample, GpusSample, HostSample, Sample, TreeSample


class SampleReader(Protocol):
    """Looks at the machine; the real one is :class:`MachineReader`, tests and pictures of screens give their own."""

    def __call__(self) -> Sample:
        """What it is now. It may take its time: a driver can hang."""


class MachineReader:
    """Looks at this machine."""

    def __init__(
        self,
        gpus: Callable[[], GpusSample] | None = None,
        disks: Callable[[], Sequence[DiskSample]] = tuple,
        run: Callable[[], TreeSample] | None = None,
    ) -> None:
        """Says what is looked at beside the host.

        Args:
            gpus: all that NVML tells of, unless it says otherwise.
            disks: those of some folders; none by default.
            run: the processes of a run.
        """
        self._gpus, self._disks, self._run = gpus or NvmlReader(), disks, run
        self._cores = read_host().cores  # dear where there are many, and they stay

    def __call__(self) -> Sample:
        """What it is now."""
        gpus = self._gpus()
        return Sample(
            time=time.time(),
            gpus=gpus.gpus,
            no_gpus=gpus.none,
            host=HostSample(*read_memory(), os.getloadavg()[0], self._cores),
            run=self._run() if self._run else None,
            disks=self._disks(),
        )
