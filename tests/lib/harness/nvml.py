"""``pynvml`` over cards that are not there."""

from types import ModuleType, SimpleNamespace

MIB = 2**20


class NVMLError(Exception):
    pass


class FakeNvml(ModuleType):
    """``pynvml`` over cards of our own: each has a name, a uuid and memory by the first and second call."""

    NVMLError = NVMLError
    nvmlMemory_v2 = 0x2000028

    def __init__(self, *cards: SimpleNamespace, init=None, count=None, shutdown=None) -> None:
        super().__init__("pynvml")
        self.cards = cards
        self.calls = []
        self._raises = {"init": init, "count": count, "shutdown": shutdown}

    def _call(self, name):
        self.calls.append(name)
        if self._raises.get(name):
            raise NVMLError(self._raises[name])

    def nvmlInit(self):
        self._call("init")

    def nvmlShutdown(self):
        self._call("shutdown")

    def nvmlDeviceGetCount(self):
        self._call("count")
        return len(self.cards)

    def nvmlSystemGetDriverVersion(self):
        return "580.159.04"

    def nvmlDeviceGetHandleByIndex(self, index):
        if isinstance(self.cards[index], Exception):
            raise self.cards[index]
        return self.cards[index]

    def nvmlDeviceGetMemoryInfo(self, handle, version=None):
        if version == self.nvmlMemory_v2 and handle.v2 is None:
            raise NVMLError("Function Not Found")
        return handle.v2 if version == self.nvmlMemory_v2 else handle.v1

    def nvmlDeviceGetUUID(self, handle):
        return handle.uuid

    def nvmlDeviceGetName(self, handle):
        return handle.name

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return next(card for card in self.cards if card.uuid == uuid)

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return handle.computing

    def nvmlDeviceGetGraphicsRunningProcesses(self, handle):
        if handle.drawing is None:
            raise NVMLError("Not Supported")
        return handle.drawing


def process(pid, mib):
    return SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * MIB)


def memory(total, free, used):
    return SimpleNamespace(total=total * MIB, free=free * MIB, used=used * MIB)


def card(number=0, name="NVIDIA GeForce RTX 4090", v2=True, computing=(), drawing=()):
    """One of 24 GiB, of which the driver keeps 616 MiB for itself."""
    return SimpleNamespace(
        computing=computing,
        drawing=drawing,
        name=name,
        uuid=f"GPU-{number}{number}-beef",
        v1=memory(24564, 23000, 1564),
        v2=memory(24564, 23000, 948) if v2 else None,
    )
