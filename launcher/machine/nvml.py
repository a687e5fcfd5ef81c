"""NVML, the driver's own library: every call that is made of it. No CUDA context is opened on the measured card.

Source: ``nvml.h`` and https://docs.nvidia.com/deploy/nvml-api/; ``pynvml`` comes from nvidia-ml-py.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NewType

from launcher.machine.sample import Figure, Unknown

MIB = 2**20
KIB = 2**10

Handle = NewType("Handle", object)
"""NVML's own, of a GPU or of a part of one (MIG); good for as long as the driver stays open."""

NO_PERMISSION = 4
_REFUSED = {
    3: "not supported on this card",
    NO_PERMISSION: "not allowed for this user",
    13: "needs a newer driver",
    25: "needs a newer driver",
}
"""By ``nvmlReturn_t``: one figure that is not to be had."""
GONE = "the driver does not find it any more; the machine has to be restarted"
_LOST = {
    15: "it has fallen off the bus; the machine has to be restarted",
    16: "it has to be reset (nvidia-smi --gpu-reset), or the machine restarted",
    28: GONE,
}
"""One GPU that does not answer any more."""
_DEAD = frozenset({1, 9, 12, 18})
"""Not initialised, not loaded, no library, library and driver of two versions: nothing answers."""

THROTTLES = (
    (0x40, "too hot: the hardware slows it down"),
    (0x80, "the power supply asks it to slow down"),
    (0x20, "too hot"),
    (0x4, "at its power limit"),
    (0x10, "as slow as the slowest GPU of its group"),
    (0x2, "clocks were set by hand"),
    (0x100, "clocks are limited for a display"),
    (0x200, "at the limit of its board"),
    (0x400, "at the limit of its voltage"),
)
"""Bits of the driver's reasons why clocks are held down, in words. Being idle (0x1) is none."""
_SLOWED_BY_HARDWARE = 0x8
"""Set beside 0x40 or 0x80, which say more; alone on cards that cannot tell which."""


class NvmlError(Exception):
    """NVML refuses something; its text is NVML's own."""

    def __init__(self, error: Any, reason: str) -> None:
        super().__init__(str(error))
        self.code = int(error.value)
        """``nvmlReturn_t``."""
        self.reason = reason
        """In words for people."""


class DriverError(NvmlError):
    """The driver is missing or does not answer."""


class LostError(NvmlError):
    """A GPU does not answer any more."""


class RefusedError(NvmlError):
    """One figure is not to be had."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a GPU, in MiB as nvidia-smi prints it."""

    total_mib: int
    free_mib: int
    used_mib: int
    """By processes; where ``reserved_mib`` is unknown, with what the driver keeps for itself."""
    reserved_mib: Figure


class Nvml:
    """The driver's library, open. Each question raises one of :class:`NvmlError` where there is no answer."""

    def __init__(self) -> None:
        """Opens it.

        Raises:
            DriverError: there is no driver, or it does not answer.
        """
        import pynvml  # noqa: PLC0415 - loads the driver's library: only when GPUs are asked for

        self._nvml = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise DriverError(error, f"no NVIDIA driver answers ({error})") from None

    def close(self) -> None:
        """Lets go of it."""
        with suppress(NvmlError):
            self._ask("nvmlShutdown")

    def driver(self) -> str:
        """Its version."""
        return _text(self._ask("nvmlSystemGetDriverVersion"))

    def cuda(self) -> str:
        """The newest CUDA that the driver runs, such as ``13.0``."""
        number = int(self._ask("nvmlSystemGetCudaDriverVersion_v2"))
        return f"{number // 1000}.{number % 1000 // 10}"

    def count(self) -> int:
        """How many GPUs it knows, lost ones included."""
        return int(self._ask("nvmlDeviceGetCount"))

    def handle(self, gpu: int | str) -> Handle:
        """Of a GPU, by index or UUID."""
        by = "Index" if isinstance(gpu, int) else "UUID"
        return Handle(self._ask(f"nvmlDeviceGetHandleBy{by}", gpu))

    def parts(self, gpu: Handle) -> Sequence[Handle] | None:
        """Of a GPU that is divided (MIG), those that it has now; None of a whole one."""
        try:
            divided, _ = self._ask("nvmlDeviceGetMigMode", gpu)
        except RefusedError:
            return None
        if not divided:
            return None
        found = []
        for place in range(self._ask("nvmlDeviceGetMaxMigDeviceCount", gpu)):
            with suppress(RefusedError):  # not each place is taken
                found.append(Handle(self._ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu, place)))
        return found

    def uuid(self, device: Handle) -> str:
        """``GPU-`` or ``MIG-`` and what tells it from every other."""
        return _text(self._ask("nvmlDeviceGetUUID", device))

    def name(self, device: Handle) -> str:
        """Of the product."""
        return _text(self._ask("nvmlDeviceGetName", device))

    def memory(self, device: Handle) -> Memory:
        """Total, free, used and, where the driver tells it apart, reserved."""
        try:
            # The first version of this call counts the driver's own reserve as used; nvidia-smi does not.
            told = self._ask("nvmlDeviceGetMemoryInfo", device, version=self._nvml.nvmlMemory_v2)
            reserved: Figure = round(told.reserved / MIB)
        except RefusedError as error:
            told = self._ask("nvmlDeviceGetMemoryInfo", device)
            reserved = Unknown(error.reason)
        return Memory(round(told.total / MIB), round(told.free / MIB), round(told.used / MIB), reserved)

    def held(self, device: Handle) -> dict[int, int | None]:
        """Bytes that each process holds of it, by pid; None where the driver does not tell how many.

        In a container pids may be the host's, and processes may be left out.
        """
        held: dict[int, int | None] = {}
        for process in self._ask("nvmlDeviceGetComputeRunningProcesses_v3", device):
            held[process.pid] = process.usedGpuMemory
        with suppress(RefusedError):  # not every card draws
            for process in self._ask("nvmlDeviceGetGraphicsRunningProcesses_v3", device):
                # One that computes and draws is told twice, each time with all that it holds.
                if held.get(process.pid) is None:
                    held[process.pid] = process.usedGpuMemory
        return held

    def utilisation(self, device: Handle) -> int:
        """Per cent of the last moments in which a kernel ran."""
        return int(self._ask("nvmlDeviceGetUtilizationRates", device).gpu)

    def temperature(self, device: Handle) -> int:
        """Degrees Celsius."""
        sensor = self._nvml.NVML_TEMPERATURE_GPU
        try:
            return int(self._ask("nvmlDeviceGetTemperatureV", device, sensor))
        except RefusedError:  # the newer of two calls
            return int(self._ask("nvmlDeviceGetTemperature", device, sensor))

    def power_w(self, device: Handle) -> float:
        """What it draws; of most cards the mean of a second."""
        return float(self._ask("nvmlDeviceGetPowerUsage", device)) / 1000

    def power_limit_w(self, device: Handle) -> float:
        """What it may draw, by whichever limit is the lowest."""
        return float(self._ask("nvmlDeviceGetEnforcedPowerLimit", device)) / 1000

    def clock_mhz(self, device: Handle) -> int:
        """Of the multiprocessors."""
        return int(self._ask("nvmlDeviceGetClockInfo", device, self._nvml.NVML_CLOCK_SM))

    def memory_clock_mhz(self, device: Handle) -> int:
        """Of its memory."""
        return int(self._ask("nvmlDeviceGetClockInfo", device, self._nvml.NVML_CLOCK_MEM))

    def throttled(self, device: Handle) -> tuple[str, ...]:
        """Why the clocks are held down, in words."""
        try:
            bits = self._ask("nvmlDeviceGetCurrentClocksEventReasons", device)
        except RefusedError:  # the newer of two names
            bits = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", device)
        found = tuple(words for bit, words in THROTTLES if bits & bit)
        return ("the hardware slows it down", *found) if bits & 0xC8 == _SLOWED_BY_HARDWARE else found

    def ecc_errors(self, device: Handle) -> int:
        """Uncorrected ones since the driver was loaded."""
        nvml = self._nvml
        kinds = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
        return int(self._ask("nvmlDeviceGetTotalEccErrors", device, *kinds))

    def received_mib_s(self, device: Handle) -> float:
        """Over PCIe. The driver counts for 20 ms and blocks as long; its counters of bytes wrap within a second."""
        return self._pcie(device, self._nvml.NVML_PCIE_UTIL_RX_BYTES)

    def sent_mib_s(self, device: Handle) -> float:
        """The other way, at the same price."""
        return self._pcie(device, self._nvml.NVML_PCIE_UTIL_TX_BYTES)

    def _pcie(self, device: Handle, way: int) -> float:
        return float(self._ask("nvmlDeviceGetPcieThroughput", device, way)) * KIB / MIB

    def _ask(self, call: str, *arguments: Any, **named: Any) -> Any:
        try:
            return getattr(self._nvml, call)(*arguments, **named)
        except self._nvml.NVMLError as error:
            if error.value in _DEAD:
                raise DriverError(error, f"the NVIDIA driver does not answer any more ({error})") from None
            if error.value in _LOST:
                raise LostError(error, _LOST[error.value]) from None
            raise RefusedError(error, _REFUSED.get(error.value, f"the driver fails ({error})")) from None


def cuda_of_driver() -> str:
    """The newest CUDA that this machine's driver runs; empty where none answers."""
    try:
        nvml = Nvml()
    except DriverError:
        return ""
    try:
        return nvml.cuda()
    except NvmlError:
        return ""
    finally:
        nvml.close()


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
