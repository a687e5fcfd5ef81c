"""What NVML tells of GPUs, look after look: unknown is what it does not tell, and a GPU that is lost stays in sight."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from launcher.machine.gpu_processes import processes_on
from launcher.machine.gpus import NO_GPU, is_part, shown_of, why_hidden
from launcher.machine.nvml import GONE, NO_PERMISSION, DriverError, Handle, LostError, Nvml, NvmlError, RefusedError
from launcher.machine.sample import Figure, GpuSample, GpusSample, Unknown

AGAIN = 30.0
"""Seconds between two tries to open a driver that does not answer: a try may start a program that loads it."""
DIVIDED = Unknown("not told of a GPU that is divided (MIG)")
OF_THE_WHOLE = Unknown("told of the whole GPU alone")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Device:
    """A GPU, or a part of one."""

    index: int
    uuid: str
    name: str
    handle: Handle
    divided: bool = False
    lost: str = ""


class NvmlReader:
    """Reads GPUs again and again. The driver is opened once, at the first look, and anew where it dies."""

    def __init__(
        self, names: str | None = None, first: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Says which GPUs are wanted.

        Args:
            names: ``CUDA_VISIBLE_DEVICES`` of whoever's GPUs they are; None: all.
            first: only so many of them, each with its parts.
            clock: seconds.
        """
        self._names, self._first, self._clock = names, first, clock
        self._nvml: Nvml | None = None
        self._gpus: dict[int, _Device] = {}
        """By index, as NVML found them when it was opened; one that was found once is not forgotten."""
        self._parts: dict[int, list[_Device]] = {}
        """As they were last."""
        self._failure, self._retry = "", 0.0

    def __call__(self) -> GpusSample:
        """The GPUs now; never raises."""
        if self._names is not None and not self._names.strip():
            return GpusSample((), "CUDA_VISIBLE_DEVICES shows none")
        if self._nvml is None and self._failure and self._clock() < self._retry:
            return GpusSample((), self._failure)
        try:
            if self._nvml is None:
                self._open()
            return self._look()
        except DriverError as error:
            self._failure, self._retry = error.reason, self._clock() + AGAIN
            if self._nvml is not None:  # it died, and may live again by the next look
                self._retry = self._clock()
                self._nvml.close()
                self._nvml = None
            return GpusSample((), self._failure)

    def _open(self) -> None:
        self._nvml = nvml = Nvml()
        found = {index: device for index in range(nvml.count()) if (device := self._find(nvml, index))}
        self._gpus = {index: replace(gpu, lost=GONE) for index, gpu in self._gpus.items()} | found

    def _find(self, nvml: Nvml, index: int) -> _Device | None:
        try:
            handle = nvml.handle(index)
            return _Device(index, nvml.uuid(handle), nvml.name(handle), handle)
        except DriverError:
            raise
        except NvmlError as error:
            if error.code == NO_PERMISSION:  # another container's
                return None
            known = self._gpus.get(index, _Device(index, "", "", Handle(None)))
            return replace(known, lost=error.reason)

    def _look(self) -> GpusSample:
        assert self._nvml is not None
        there = [device for index in sorted(self._gpus) for device in self._with_parts(self._gpus[index])]
        if not there:
            return GpusSample((), NO_GPU)
        shown = shown_of(there, self._names)
        if not shown:
            return GpusSample((), why_hidden(there, self._names))
        wanted = list(dict.fromkeys(device.index for device in shown))[: self._first]
        return GpusSample([_sample(self._nvml, device) for device in shown if device.index in wanted])

    def _with_parts(self, gpu: _Device) -> Iterator[_Device]:
        nvml = self._nvml
        assert nvml is not None
        try:
            if not gpu.lost:
                parts = nvml.parts(gpu.handle)
                gpu = replace(gpu, divided=parts is not None)
                found = [_Device(gpu.index, nvml.uuid(part), nvml.name(part), part) for part in parts or ()]
                self._parts[gpu.index] = found
        except LostError as error:
            gpu = replace(gpu, lost=error.reason)
        except RefusedError:  # a part that is being taken away: as they were last
            gpu = replace(gpu, divided=True)
        yield gpu
        for part in self._parts.get(gpu.index, ()):
            yield replace(part, lost=gpu.lost)


def _sample(nvml: Nvml, device: _Device) -> GpuSample:
    try:
        if not device.lost:
            return (_of_part if is_part(device) else _of_whole)(nvml, device)
        reason = device.lost
    except LostError as error:
        reason = error.reason
    return replace(_without_figures(device, Unknown(reason)), lost=reason)


def _of_whole(nvml: Nvml, device: _Device) -> GpuSample:
    def ask(figure: Callable[[Handle], T]) -> T | Unknown:
        return _known(figure, device.handle)

    total, used, reserved = _memory(nvml, device.handle)
    return GpuSample(
        index=device.index,
        uuid=device.uuid,
        name=device.name,
        total_mib=total,
        used_mib=used,
        reserved_mib=reserved,
        utilisation=DIVIDED if device.divided else ask(nvml.utilisation),
        temperature=ask(nvml.temperature),
        power_w=ask(nvml.power_w),
        power_limit_w=ask(nvml.power_limit_w),
        clock_mhz=ask(nvml.clock_mhz),
        memory_clock_mhz=ask(nvml.memory_clock_mhz),
        throttled=ask(nvml.throttled),
        ecc_errors=ask(nvml.ecc_errors),
        received_mib_s=ask(nvml.received_mib_s),
        sent_mib_s=ask(nvml.sent_mib_s),
        processes=processes_on(nvml, device.handle, used),
    )


def _of_part(nvml: Nvml, device: _Device) -> GpuSample:
    total, used, reserved = _memory(nvml, device.handle)
    return replace(
        _without_figures(device, OF_THE_WHOLE),
        total_mib=total,
        used_mib=used,
        reserved_mib=reserved,
        utilisation=DIVIDED,
        processes=processes_on(nvml, device.handle, used),
    )


def _without_figures(device: _Device, unknown: Unknown) -> GpuSample:
    return GpuSample(
        index=device.index,
        uuid=device.uuid,
        name=device.name,
        total_mib=unknown,
        used_mib=unknown,
        reserved_mib=unknown,
        utilisation=unknown,
        temperature=unknown,
        power_w=unknown,
        power_limit_w=unknown,
        clock_mhz=unknown,
        memory_clock_mhz=unknown,
        throttled=unknown,
        ecc_errors=unknown,
        received_mib_s=unknown,
        sent_mib_s=unknown,
        processes=unknown,
    )


def _memory(nvml: Nvml, handle: Handle) -> tuple[Figure, Figure, Figure]:
    """Total, used, reserved."""
    try:
        memory = nvml.memory(handle)
        return memory.total_mib, memory.used_mib, memory.reserved_mib
    except RefusedError as error:
        return (Unknown(error.reason),) * 3


def _known(ask: Callable[[Handle], T], handle: Handle) -> T | Unknown:
    try:
        return ask(handle)
    except RefusedError as error:
        return Unknown(error.reason)
