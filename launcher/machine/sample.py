"""What one look at the machine told: frozen, so that threads may pass it on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launcher.machine.gpu_processes import GpuProcess


@dataclass(frozen=True, slots=True)
class Unknown:
    """A figure that is not to be had here, and why: shown as N/A."""

    reason: str


Figure = float | Unknown


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU, or one part of a GPU (MIG); memory in MiB as nvidia-smi prints it."""

    index: int
    """By NVML's order; of a part, its GPU's."""
    uuid: str
    name: str
    total_mib: Figure
    used_mib: Figure
    """By processes."""
    reserved_mib: Figure
    """By the driver for itself: in neither used nor free."""
    utilisation: Figure
    """Per cent of the last moments in which a kernel ran."""
    temperature: Figure
    """Degrees Celsius."""
    power_w: Figure
    power_limit_w: Figure
    clock_mhz: Figure
    """Of the multiprocessors."""
    memory_clock_mhz: Figure
    throttled: tuple[str, ...] | Unknown
    """Why the clocks are held down, in words; empty where they are not."""
    ecc_errors: Figure
    """Uncorrected, since the driver was loaded."""
    received_mib_s: Figure
    """Over PCIe, by the GPU."""
    sent_mib_s: Figure
    processes: "tuple[GpuProcess, ...] | Unknown"
    """The largest first."""
    lost: str = ""
    """Why it does not answer any more, such as having fallen off the bus; the figures are unknown then."""


@dataclass(frozen=True, slots=True)
class GpusSample:
    """All GPUs that are looked at, or why there are none."""

    gpus: Sequence[GpuSample]
    """By index; below one that is divided, its parts."""
    none: str = ""


@dataclass(frozen=True, slots=True)
class HostSample:
    """The machine, or the container where that allows less; MiB."""

    total_mib: int
    available_mib: int
    load: float
    """Processes that want a core, the mean of the last minute."""
    cores: int


@dataclass(frozen=True, slots=True)
class TreeSample:
    """All processes of one run."""

    processes: int
    resident_mib: int
    """Memory they share, such as libraries, counts once where the kernel says so."""
    pinned_mib: int
    """Of it, locked for the GPU to read; without what was registered with CUDA afterwards, which nobody tells."""


@dataclass(frozen=True, slots=True)
class DiskSample:
    """The disk below a folder."""

    folder: Path
    filesystem: int
    """Its number (stat(2), st_dev): the same for folders that lie on one."""
    total_mib: int
    free_mib: int
    read_mib_s: Figure
    written_mib_s: Figure


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the machine."""

    time: float
    """Seconds since the epoch."""
    gpus: Sequence[GpuSample]
    no_gpus: str
    """Why there are none; empty where there are."""
    host: HostSample
    run: TreeSample | None
    """Of the run that is watched, if one is."""
    disks: Sequence[DiskSample]
