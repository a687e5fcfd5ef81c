"""What processes take of GPUs and of host memory, looked at from outside them while they run."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread

import psutil

from launcher.machine.nvml import MIB, Nvml, RefusedError

INTERVAL, HOST_INTERVAL = 0.02, 0.2
"""Seconds between two looks at the GPUs, and at host memory."""
SELDOM = 1.0
"""The same while steps are timed: the driver that is asked is the one that launches kernels. Nothing is lost, as what
torch takes in a step it keeps."""
Training = Callable[[list[str]], bool]
"""Whether a process with this command line is one that trains."""


@dataclass(frozen=True, slots=True)
class Look:
    """What NVML told at one time; lists are by GPU."""

    time: float
    """Seconds since the epoch."""
    grown_mib: list[int]
    """By how much the used memory (v2 call) is more than it was before anything began."""
    held: list[dict[int, int | None]]
    """Bytes of each process, by pid."""


class Sampler:
    """Every look, in memory; begun before the processes are, ended after them."""

    def __init__(
        self, uuids: Sequence[str], trains: Training, steps_are_timed: Callable[[], bool] = lambda: False
    ) -> None:
        """Notes what the GPUs hold now.

        Args:
            uuids: of the GPUs; none on a machine without.
            trains: tells the training processes from those that start and follow them.
            steps_are_timed: asked before each look.
        """
        self._trains, self._steps_are_timed, self._over = trains, steps_are_timed, Event()
        self._nvml = Nvml() if uuids else None
        self._handles = [self._nvml.handle(uuid) for uuid in uuids] if self._nvml else []
        self._before = [self._used(handle) for handle in self._handles]
        self._pids: set[int] = set()
        self.looks: list[Look] = []
        self.host_mib = 0
        """Resident memory of the training processes together, at the most."""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Looks for as long as this lasts."""
        threads = [Thread(target=self._repeat, args=(self._gpus, INTERVAL))] if self._handles else []
        threads.append(Thread(target=self._repeat, args=(self._host, HOST_INTERVAL)))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
            if self._nvml:
                self._nvml.close()

    def device_mib(self, looks: Sequence[Look] | None = None) -> list[int]:
        """By how much each GPU's used memory had grown at the most, in some looks or all."""
        chosen = self.looks if looks is None else looks
        return [max((look.grown_mib[place] for look in chosen), default=0) for place in range(len(self._handles))]

    def process_mib(self, looks: Sequence[Look] | None = None) -> list[int] | None:
        """What the training processes held of each GPU at the most, as nvidia-smi prints it.

        None where NVML does not tell processes apart, or knows them by other pids.
        """
        chosen = self.looks if looks is None else looks
        peaks = [
            max((sum(look.held[place].get(pid) or 0 for pid in self._pids) for look in chosen), default=0) // MIB
            for place in range(len(self._handles))
        ]
        return peaks if any(peaks) else None

    def _repeat(self, look: Callable[[], None], interval: float) -> None:
        while not self._over.wait(SELDOM if self._steps_are_timed() else interval):
            look()

    def _gpus(self) -> None:
        grown = [self._used(handle) - before for handle, before in zip(self._handles, self._before, strict=True)]
        self.looks.append(Look(time.time(), grown, [self._held(handle) for handle in self._handles]))

    def _host(self) -> None:
        resident = 0
        for process in psutil.process_iter(["cmdline"]):
            if self._trains(process.info["cmdline"] or []):
                with suppress(psutil.NoSuchProcess):
                    resident += process.memory_info().rss // MIB
                self._pids.add(process.pid)
        self.host_mib = max(self.host_mib, resident)

    def _used(self, handle: object) -> int:
        assert self._nvml is not None
        return self._nvml.memory(handle).used_mib

    def _held(self, handle: object) -> dict[int, int | None]:
        assert self._nvml is not None
        try:
            return self._nvml.held(handle)
        except RefusedError:
            return {}
