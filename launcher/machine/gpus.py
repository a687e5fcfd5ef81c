"""GPUs as they are now, and which of them CUDA will show."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from launcher.machine.nvml import DriverError, Nvml, NvmlError


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


class Device(Protocol):
    """What ``CUDA_VISIBLE_DEVICES`` may name: a GPU, or a part of one (MIG), which has its GPU's index."""

    @property
    def index(self) -> int:
        """By NVML's order."""

    @property
    def uuid(self) -> str:
        """``GPU-`` or, of a part, ``MIG-`` and more."""


D = TypeVar("D", bound=Device)
NO_GPU = "the NVIDIA driver finds no GPU"


def read_nvml() -> Gpus:
    """The GPUs of this machine, or why none can be seen."""
    try:
        nvml = Nvml()
    except DriverError as error:
        return Gpus((), reason=error.reason)
    try:
        found = [_read(nvml, index) for index in range(nvml.count())]
        return Gpus(found, reason="" if found else NO_GPU, driver=nvml.driver())
    except NvmlError as error:
        return Gpus((), reason=f"the NVIDIA driver fails ({error})")
    finally:
        nvml.close()


def visible(gpus: Gpus, devices: str | None) -> Gpus:
    """The GPUs that CUDA will show the training processes, in its order.

    Args:
        gpus: all of the machine.
        devices: the environment's ``CUDA_VISIBLE_DEVICES``: indices or UUIDs, up to the first that names none.
    """
    shown = shown_of(gpus.gpus, devices)
    return Gpus(shown, gpus.reason if shown or not gpus.gpus else why_hidden(gpus.gpus, devices), gpus.driver)


def visible_to(gpus: Gpus, gpu_ids: str) -> Gpus:
    """The same for a launch from here.

    Args:
        gpus: all of the machine.
        gpu_ids: which of them the launch is to use, by index, joined by commas; ``all`` leaves it to the environment.
    """
    return visible(gpus, os.environ.get("CUDA_VISIBLE_DEVICES") if gpu_ids == "all" else gpu_ids)


def shown_of(devices: Sequence[D], names: str | None) -> Sequence[D]:
    """Those that CUDA shows, in its order; the parts of a GPU come with it.

    Args:
        devices: all of the machine. Where parts are named and none is among them, all are taken to be shown.
        names: the environment's ``CUDA_VISIBLE_DEVICES``.
    """
    if names is None or ("MIG-" in names and not any(is_part(device) for device in devices)):
        return devices
    shown: list[D] = []
    for name in names.split(","):
        found = _named(devices, name.strip())
        if not found:
            break
        shown += found
    return shown


def why_hidden(devices: Sequence[D], names: str | None) -> str:
    """What is said where none of some devices is shown."""
    return f"CUDA_VISIBLE_DEVICES={names} hides all {sum(not is_part(device) for device in devices)} of them"


def is_part(device: Device) -> bool:
    """Whether it is a part of a GPU (MIG)."""
    return device.uuid.startswith("MIG-")


def _named(devices: Sequence[D], name: str) -> list[D]:
    """One GPU with its parts, or one part; nothing where the name fits none or several."""
    if name.startswith(("GPU-", "MIG-")):
        found = [device for device in devices if device.uuid.startswith(name)]
        if len(found) != 1 or is_part(found[0]):
            return found if len(found) == 1 else []
        name = str(found[0].index)
    return [device for device in devices if str(device.index) == name]


def _read(nvml: Nvml, index: int) -> Gpu:
    handle = nvml.handle(index)
    memory = nvml.memory(handle)
    return Gpu(index, nvml.uuid(handle), nvml.name(handle), memory.total_mib, memory.free_mib, memory.used_mib)
