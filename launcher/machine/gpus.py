"""GPUs by NVML. No CUDA context is opened on the card that is measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU; memory in MiB as nvidia-smi prints it."""

    index: int
    uuid: str
    name: str
    total_mib: int
    free_mib: int
    used_mib: int
    """By processes; what the driver reserves for itself is in neither free nor used."""


@dataclass(frozen=True, slots=True)
class Gpus:
    """What could be found out."""

    gpus: Sequence[Gpu]
    reason: str = ""
    """Why there are none."""


class Reader(Protocol):
    """Reads the GPUs; the real one asks NVML, tests give their own."""

    def __call__(self) -> Gpus:
        """The GPUs now; never raises."""


def read_nvml() -> Gpus:
    """The GPUs of this machine, or why none can be seen."""
    import pynvml  # noqa: PLC0415 - loads the driver's library: only when GPUs are asked for

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Gpus((), reason=f"no NVIDIA driver answers ({error})")
    try:
        return Gpus([_read(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())])
    except pynvml.NVMLError as error:
        return Gpus((), reason=f"the NVIDIA driver fails ({error})")
    finally:
        pynvml.nvmlShutdown()


def _read(pynvml: Any, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    try:
        # The first version of this call counts the driver's own reserve as used; nvidia-smi does not.
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except pynvml.NVMLError:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        index=index,
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        total_mib=memory.total // MIB,
        free_mib=memory.free // MIB,
        used_mib=memory.used // MIB,
    )


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
