"""Whether NVMe offload may go to a folder: DeepSpeed corrupts gradients, without a word, on most drives.

DeepSpeed 0.19.8 swaps with direct input and output (O_DIRECT) and never looks at the result. It reads a parameter's
gradient to where it belongs in a buffer of all of them, at a multiple of 4 bytes
(``runtime/swap_tensor/partitioned_optimizer_swapper.py``, ``_swap_in_pinned_gradients``), in requests of whole
multiples of 1,024. A drive that wants memory aligned to 512 bytes refuses such a read, the buffer stays as it was, and
training goes on with it: measured on ext4 with ``queue/dma_alignment`` 511, half of a tensor's first update had the
wrong sign. Linux gives NVMe drives 3.
"""

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from launcher.machine.disk import nearest_existing, why_not_writable
from launcher.machine.filesystems import IN_MEMORY, MOUNTINFO, NETWORK, OVERLAYS, SYS, block_device, filesystem

UNSAFE = "SIMPLETUNER_TUI_UNSAFE_NVME"
"""An environment variable for tests alone: set, what is said here only warns. Gradients go wrong silently then."""

ALIGNED = 4
"""Bytes that DeepSpeed aligns its buffers' parts to: an fp32 element's."""
REQUEST = 2**20 + 1024
"""Bytes of the probe: the smallest that DeepSpeed swaps, and its smallest unit more."""


def why_no_nvme_offload(folder: Path, mountinfo: Path = MOUNTINFO, sys: Path = SYS) -> str | None:
    """Why NVMe offload must not go to a folder, which may not be there yet; None where it can.

    Args:
        folder: absolute; a file of a MiB is written where it is or will be, read, and gone again.
        mountinfo: what is mounted where; tests give their own.
        sys: where the kernel describes drives; tests give their own.
    """
    if reason := why_not_writable(folder):
        return reason
    existing = nearest_existing(folder).resolve()
    kind, source = filesystem(existing, mountinfo)
    return _why_not_this_kind(kind) or _why_not_this_drive(existing, kind, source, sys) or _why_not_read(existing)


def _why_not_this_kind(kind: str) -> str | None:
    if kind in IN_MEMORY:
        return f"it is in host memory ({kind}), which offloading there would fill instead of sparing it"
    if kind in OVERLAYS:
        return (
            f"it is inside a container's own filesystem ({kind}), whose layers lie between DeepSpeed and the drive; "
            "mount a folder of the drive into the container"
        )
    if kind in NETWORK:
        return f"it is on a network filesystem ({kind}), over which every step would move all optimizer states"
    if kind.startswith("fuse"):
        return f"its filesystem ({kind}) is a program that answers in the drive's place"
    return None


def _why_not_this_drive(existing: Path, kind: str, source: str, sys: Path) -> str | None:
    device = block_device(existing, source, sys)
    if device is None:
        return f"no drive is found behind it ({kind} on {source}), so how it wants memory aligned is not known"
    for drive in _stack(device):
        try:
            wanted = int((drive / "queue/dma_alignment").read_text()) + 1
        except (OSError, ValueError):
            return f"this kernel does not tell how the drive {drive.name} wants memory aligned"
        if wanted > ALIGNED:
            return (
                f"the drive {drive.name} wants memory aligned to {wanted} bytes, and DeepSpeed 0.19.8 aligns it to "
                f"{ALIGNED}: gradients would be wrong without a word"
            )
    return None


def _stack(device: Path) -> Iterator[Path]:
    """The drive of a partition, and those that it is made of: device mapper, LVM, LUKS and md name them ``slaves``."""
    drive = device.parent if (device / "partition").exists() else device
    yield drive
    for part in sorted((drive / "slaves").glob("*")):
        yield from _stack(part.resolve())


def _why_not_read(folder: Path) -> str | None:
    """Reads as DeepSpeed does and compares: what sysfs says is not all that may go wrong on the way."""
    written = os.urandom(REQUEST)
    handle, name = tempfile.mkstemp(dir=folder)
    os.close(handle)
    try:
        try:
            direct = os.open(name, os.O_RDWR | os.O_DIRECT)
        except OSError as error:
            return f"its filesystem refuses direct input and output ({error.strerror})"
        try:
            return _why_not_same(direct, written)
        except OSError as error:
            return f"direct input and output as DeepSpeed does it, aligned to {ALIGNED} bytes, fails ({error.strerror})"
        finally:
            os.close(direct)
    finally:
        Path(name).unlink()


def _why_not_same(direct: int, written: bytes) -> str | None:
    with mmap.mmap(-1, REQUEST) as aligned:
        aligned[:] = written
        os.pwrite(direct, aligned, 0)
    with mmap.mmap(-1, ALIGNED + REQUEST) as buffer:
        with memoryview(buffer) as whole, whole[ALIGNED:] as part:
            os.preadv(direct, [part], 0)
        if buffer[ALIGNED:] != written:
            return f"a direct read into memory aligned to {ALIGNED} bytes returns something else than was written"
    return None
