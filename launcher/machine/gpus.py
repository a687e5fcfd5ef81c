"""GPUs by NVML. No CUDA context is opened on the card that is measured."""

import os
from collections.abc import Sequence
from contextlib import suppress
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
    driver: str = ""
    """The driver's version."""


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
        cards = [_read(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
        return Gpus(cards, driver=_text(pynvml.nvmlSystemGetDriverVersion()))
    except pynvml.NVMLError as error:
        return Gpus((), reason=f"the NVIDIA driver fails ({error})")
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def visible(gpus: Gpus, devices: str | None) -> Gpus:
    """The GPUs that CUDA will show the training processes, in its order.

    Args:
        gpus: all of the machine.
        devices: the environment's ``CUDA_VISIBLE_DEVICES``: indices or UUIDs, up to the first that names none.
    """
    if devices is None or not gpus.gpus or "MIG-" in devices:
        return gpus
    shown: list[Gpu] = []
    for name in devices.split(","):
        found = [gpu for gpu in gpus.gpus if _is_named(gpu, name.strip())]
        if len(found) != 1:
            break
        shown += found
    reason = "" if shown else f"CUDA_VISIBLE_DEVICES={devices} hides all {len(gpus.gpus)} of them"
    return Gpus(shown, reason, gpus.driver)


def visible_to(gpus: Gpus, gpu_ids: str) -> Gpus:
    """The same for a launch from here.

    Args:
        gpus: all of the machine.
        gpu_ids: which of them the launch is to use, by index, joined by commas; ``all`` leaves it to the environment.
    """
    return visible(gpus, os.environ.get("CUDA_VISIBLE_DEVICES") if gpu_ids == "all" else gpu_ids)


def _is_named(gpu: Gpu, name: str) -> bool:
    return name == str(gpu.index) or (name.startswith("GPU-") and gpu.uuid.startswith(name))


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
