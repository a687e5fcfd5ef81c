"""``pynvml`` over cards that are not there; its numbers and its errors are the real ones."""

from types import ModuleType, SimpleNamespace

import pynvml

MIB = 2**20
NVMLError = pynvml.NVMLError
UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 1, 3, 4, 6
DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, FUNCTION_NOT_FOUND = 9, 12, 13
GPU_IS_LOST, RESET_REQUIRED, UNKNOWN_ERROR = 15, 16, 999


class FakeNvml(ModuleType):
    """``pynvml`` over cards of our own.

    ``fails`` is the error of every call, as of a driver that is not there; ``refuses`` are errors by call. A card has
    such errors too, and is ``lost`` by one. ``calls`` are those that were made.
    """

    def __init__(self, *cards: SimpleNamespace, fails: int = 0, **refuses: int) -> None:
        super().__init__("pynvml")
        for name, value in vars(pynvml).items():
            if name.startswith(("NVML", "nvml")) and (isinstance(value, int) or name == "NVMLError"):
                setattr(self, name, value)
        self.cards, self.fails = list(cards), fails
        self.refuses = {f"nvml{name}": code for name, code in refuses.items()}
        self.calls: list[str] = []

    def _answer(self, call, value=None, card=None):
        self.calls.append(call)
        code = self.fails or self.refuses.get(call)
        if card is not None:
            code = code or card.lost or card.refuses.get(call)
        if code:
            raise NVMLError(code)
        return value

    def nvmlInit(self):
        self._answer("nvmlInit")

    def nvmlShutdown(self):
        self._answer("nvmlShutdown")

    def nvmlSystemGetDriverVersion(self):
        return self._answer("nvmlSystemGetDriverVersion", "580.159.04")

    def nvmlSystemGetCudaDriverVersion_v2(self):
        return self._answer("nvmlSystemGetCudaDriverVersion_v2", 12080)

    def nvmlDeviceGetCount(self):
        return self._answer("nvmlDeviceGetCount", len(self.cards))

    def nvmlDeviceGetHandleByIndex(self, index):
        return self._answer("nvmlDeviceGetHandleByIndex", self.cards[index], self.cards[index])

    def nvmlDeviceGetHandleByUUID(self, uuid):
        found = [card for card in self.cards if card.uuid == uuid]
        if not found:
            raise NVMLError(NOT_FOUND)
        return self._answer("nvmlDeviceGetHandleByUUID", found[0], found[0])

    def nvmlDeviceGetMigMode(self, card):
        if card.parts is None:
            raise NVMLError(card.lost or NOT_SUPPORTED)
        return self._answer("nvmlDeviceGetMigMode", [int(bool(card.parts))] * 2, card)

    def nvmlDeviceGetMaxMigDeviceCount(self, card):
        return self._answer("nvmlDeviceGetMaxMigDeviceCount", 7, card)

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card, index):
        if index >= len(card.parts):
            raise NVMLError(NOT_FOUND)
        return self._answer("nvmlDeviceGetMigDeviceHandleByIndex", card.parts[index], card)

    def nvmlDeviceGetUUID(self, card):
        return self._answer("nvmlDeviceGetUUID", card.uuid, card)

    def nvmlDeviceGetName(self, card):
        return self._answer("nvmlDeviceGetName", card.name, card)

    def nvmlDeviceGetMemoryInfo(self, card, version=None):
        if version == self.nvmlMemory_v2 and card.v2 is None:
            raise NVMLError(FUNCTION_NOT_FOUND)
        return self._answer("nvmlDeviceGetMemoryInfo", card.v2 if version == self.nvmlMemory_v2 else card.v1, card)

    def nvmlDeviceGetComputeRunningProcesses_v3(self, card):
        return self._answer("nvmlDeviceGetComputeRunningProcesses_v3", card.computing, card)

    def nvmlDeviceGetGraphicsRunningProcesses_v3(self, card):
        if card.drawing is None:
            raise NVMLError(NOT_SUPPORTED)
        return self._answer("nvmlDeviceGetGraphicsRunningProcesses_v3", card.drawing, card)

    def nvmlDeviceGetUtilizationRates(self, card):
        return self._answer("nvmlDeviceGetUtilizationRates", SimpleNamespace(gpu=87, memory=40), card)

    def nvmlDeviceGetTemperatureV(self, card, sensor):
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._answer("nvmlDeviceGetTemperatureV", 64, card)

    def nvmlDeviceGetTemperature(self, card, sensor):
        assert sensor == self.NVML_TEMPERATURE_GPU
        return self._answer("nvmlDeviceGetTemperature", 63, card)

    def nvmlDeviceGetPowerUsage(self, card):
        return self._answer("nvmlDeviceGetPowerUsage", 412_345, card)

    def nvmlDeviceGetEnforcedPowerLimit(self, card):
        return self._answer("nvmlDeviceGetEnforcedPowerLimit", 450_000, card)

    def nvmlDeviceGetClockInfo(self, card, kind):
        clocks = {self.NVML_CLOCK_SM: 2520, self.NVML_CLOCK_MEM: 10501}
        return self._answer("nvmlDeviceGetClockInfo", clocks[kind], card)

    def nvmlDeviceGetCurrentClocksEventReasons(self, card):
        return self._answer("nvmlDeviceGetCurrentClocksEventReasons", card.reasons, card)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, card):
        return self._answer("nvmlDeviceGetCurrentClocksThrottleReasons", card.reasons, card)

    def nvmlDeviceGetTotalEccErrors(self, card, error, counter):
        assert (error, counter) == (self.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, self.NVML_VOLATILE_ECC)
        return self._answer("nvmlDeviceGetTotalEccErrors", 0, card)

    def nvmlDeviceGetPcieThroughput(self, card, way):
        kib = {self.NVML_PCIE_UTIL_RX_BYTES: 20_480, self.NVML_PCIE_UTIL_TX_BYTES: 1024}
        return self._answer("nvmlDeviceGetPcieThroughput", kib[way], card)


def process(pid, mib):
    return SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * MIB)


def memory(total, free, used):
    """As the second call tells it: what is neither free nor used is the driver's own."""
    return SimpleNamespace(total=total * MIB, free=free * MIB, used=used * MIB, reserved=(total - free - used) * MIB)


def card(
    number=0,
    name="NVIDIA GeForce RTX 4090",
    v2=True,
    computing=(),
    drawing=(),
    parts=None,
    reasons=0,
    lost=0,
    **refuses,
):
    """One of 24 GiB, of which the driver keeps 616 MiB for itself; ``refuses`` are errors by call."""
    return SimpleNamespace(
        computing=computing,
        drawing=drawing,
        name=name,
        uuid=f"GPU-{number}{number}-beef",
        v1=memory(24564, 23000, 1564),
        v2=memory(24564, 23000, 948) if v2 else None,
        parts=parts,
        reasons=reasons,
        lost=lost,
        refuses={f"nvmlDeviceGet{call}": code for call, code in refuses.items()},
    )


def part(number=0, of=0, computing=(), used=948):
    """A seventh of a GPU (MIG), which refuses whatever is told of the whole alone."""
    whole = ("UtilizationRates", "TemperatureV", "Temperature", "PowerUsage", "EnforcedPowerLimit", "ClockInfo")
    made = card(
        name="NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        computing=computing,
        drawing=None,
        **dict.fromkeys(whole, NOT_SUPPORTED),
    )
    made.uuid = f"MIG-{of}{number}-cafe"
    made.v2 = memory(4864, 4864 - used, used)
    return made
