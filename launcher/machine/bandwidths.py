"""How fast this machine moves and computes, as ``launcher.probes.bandwidths`` measured it and keeps it in a file.

A file is of one machine: its first GPU, its driver, torch, and how many threads the CPU's part was measured with.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from launcher.machine.cache import cache_folder
from launcher.machine.gpus import read_nvml, visible
from launcher.machine.packages import installed_version

DAMAGED = (OSError, ValueError, LookupError, TypeError)
"""What reading a file that something else wrote can raise."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What figures depend on."""

    gpu: str
    """Its name; empty without one."""
    uuid: str
    driver: str
    torch: str
    threads: int
    """Of all processes on this machine together."""


@dataclass(frozen=True, slots=True)
class HostSpeed:
    """Of the CPU and its memory, with all threads."""

    copy_gb_s: float
    """Bytes read and written while a large tensor is copied."""
    scale_elements_s: float
    """fp32 elements multiplied in place, as clipping does."""
    adam_elements_s: float
    """Elements that AdamW updates: fp32 masters, gradients and moments."""
    adam: str
    """Whose AdamW that was."""
    convert_elements_s: float
    """fp32 elements written as bf16."""
    one_pass_elements_s: float | None
    """Elements that this launcher's own AdamW updates: gradients in bf16 scaled, masters and moments updated, weights
    written as bf16. None where it does not compile."""


@dataclass(frozen=True, slots=True)
class BlockAtSize:
    """One block at one size, with the launches of its kernels out of the way."""

    flops: float
    """Of a forward pass."""
    backward_flops: float
    forward_tflops: float
    """Achieved a second."""
    backward_tflops: float

    @property
    def forward_seconds(self) -> float:
        """What the GPU computes at a forward pass."""
        return self.flops / self.forward_tflops / 1e12

    @property
    def backward_seconds(self) -> float:
        """The same of a backward pass."""
        return self.backward_flops / self.backward_tflops / 1e12


@dataclass(frozen=True, slots=True)
class BlockSpeed:
    """One block of a U-Net in bf16."""

    launch_forward_seconds: float
    """What Python and torch need to start its kernels, on a picture so small that the GPU waits for them."""
    launch_backward_seconds: float
    launch_checkpointed_forward_seconds: float
    """The same with gradient checkpointing, whose backward pass computes forward again."""
    launch_checkpointed_backward_seconds: float
    small: BlockAtSize
    large: BlockAtSize


@dataclass(frozen=True, slots=True)
class GpuSpeed:
    """Of the first GPU and the way to it."""

    up_gb_s: float
    """PCIe from pinned host memory, in one direction at a time."""
    down_gb_s: float
    up_pageable_gb_s: float
    down_pageable_gb_s: float
    up_converted_gb_s: float
    """bf16 bytes that arrive while fp32 in pinned memory is copied to bf16 on the GPU: torch converts it on the CPU."""
    copy_gb_s: float
    """GPU memory: bytes read and written."""
    adam_elements_s: float
    """torch's fused AdamW."""
    op_seconds: float
    """What it takes to launch one small op."""
    transformer: BlockSpeed
    resnet: BlockSpeed


@dataclass(frozen=True, slots=True)
class DriveSpeed:
    """Of the drive below a folder, past the page cache where the file system lets."""

    path: str
    write_gb_s: float
    read_gb_s: float


@dataclass(frozen=True, slots=True)
class Bandwidths:
    """Everything that was measured."""

    hardware: Hardware
    time: float
    """When, in seconds since the epoch."""
    seconds: float
    """How long it took."""
    host: HostSpeed
    gpu: GpuSpeed | None
    drive: DriveSpeed | None

    def to_json(self) -> dict[str, Any]:
        """The fields of these classes by name."""
        return asdict(self)

    def to_bytes(self) -> bytes:
        """As a file holds it: JSON."""
        return (json.dumps(self.to_json(), indent=2) + "\n").encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Bandwidths":
        """Reads what :meth:`to_bytes` wrote.

        Raises:
            ValueError, LookupError, TypeError: it is something else.
        """
        read = json.loads(content)
        gpu, drive = read["gpu"], read["drive"]
        return cls(
            Hardware(**read["hardware"]),
            float(read["time"]),
            float(read["seconds"]),
            HostSpeed(**read["host"]),
            gpu and GpuSpeed(**{**gpu, **{name: _block(gpu[name]) for name in ("transformer", "resnet")}}),
            drive and DriveSpeed(**drive),
        )


def _block(read: Mapping[str, Any]) -> BlockSpeed:
    return BlockSpeed(**{**read, **{name: BlockAtSize(**read[name]) for name in ("small", "large")}})


def this_hardware(threads: int) -> Hardware:
    """What figures measured here and now, with so many threads, would depend on."""
    found = read_nvml()
    gpus = visible(found, os.environ.get("CUDA_VISIBLE_DEVICES")).gpus
    name, uuid = (gpus[0].name, gpus[0].uuid) if gpus else ("", "")
    return Hardware(name, uuid, found.driver, installed_version("torch") or "", threads)


def bandwidths_file(hardware: Hardware) -> Path:
    """Where a machine's figures are kept."""
    digest = hashlib.sha256(json.dumps(asdict(hardware)).encode()).hexdigest()[:16]
    return cache_folder("bandwidths") / f"{digest}.json"


def known(hardware: Hardware) -> Bandwidths | None:
    """What was measured of a machine; None where nothing was, or its file is not one of this version's."""
    try:
        found = Bandwidths.from_bytes(bandwidths_file(hardware).read_bytes())
    except DAMAGED:
        return None
    return found if found.hardware == hardware else None
