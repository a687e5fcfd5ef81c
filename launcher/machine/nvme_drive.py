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
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from launcher.machine.disk import nearest_existing, why_not_writable

UNSAFE = "SIMPLETUNER_TUI_UNSAFE_NVME"
"""An environment variable for tests alone: set, what is said here only warns. Gradients go wrong silently then."""

ALIGNED = 4
"""Bytes that DeepSpeed aligns its buffers' parts to: an fp32 element's."""
REQUEST = 2**20 + 1024
"""Bytes of the probe: the smallest that DeepSpeed swaps, and its smallest unit more."""

_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
_OVERLAYS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs", "unionfs"})
_NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "vboxsf", "afs", "ceph", "lustre", "gpfs", "beegfs"}
    | {"glusterfs", "fuse.glusterfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "fuse.sshfs", "fuse.rclone", "fuse.s3fs"}
)


def why_no_nvme_offload(
    folder: Path, mountinfo: Path = Path("/proc/self/mountinfo"), sys: Path = Path("/sys")
) -> str | None:
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


def filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> tuple[str, str]:
    """Type and source of the filesystem a path is on, or will be, from the kernel's list (proc_pid_mountinfo(5)).

    Args:
        path: need not be there.
        mountinfo: what is mounted where; tests give their own.
    """
    path = nearest_existing(path).resolve()
    found = ("", "")
    deepest = -1
    for line in mountinfo.read_text().splitlines():
        place, _, filesystem = line.partition(" - ")
        point = Path(_unescaped(place.split(" ")[4]))
        # What is mounted later on the same place hides what was there.
        if path.is_relative_to(point) and len(point.parts) >= deepest:
            deepest = len(point.parts)
            kind, source, *_ = filesystem.split(" ")
            found = kind, _unescaped(source)
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _why_not_this_kind(kind: str) -> str | None:
    if kind in _IN_MEMORY:
        return f"it is in host memory ({kind}), which offloading there would fill instead of sparing it"
    if kind in _OVERLAYS:
        return (
            f"it is inside a container's own filesystem ({kind}), whose layers lie between DeepSpeed and the drive; "
            "mount a folder of the drive into the container"
        )
    if kind in _NETWORK:
        return f"it is on a network filesystem ({kind}), over which every step would move all optimizer states"
    if kind.startswith("fuse"):
        return f"its filesystem ({kind}) is a program that answers in the drive's place"
    return None


def _why_not_this_drive(existing: Path, kind: str, source: str, sys: Path) -> str | None:
    device = _block_device(existing, source, sys)
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


def _block_device(existing: Path, source: str, sys: Path) -> Path | None:
    """The device in sysfs that a filesystem is on; None where it has none."""
    number = existing.stat().st_dev
    if os.major(number) == 0:  # btrfs gives each of its volumes a number of its own
        try:
            status = Path(source).stat()
        except OSError:
            return None
        if not stat.S_ISBLK(status.st_mode):
            return None
        number = status.st_rdev
    device = sys / "dev/block" / f"{os.major(number)}:{os.minor(number)}"
    return device.resolve() if device.exists() else None


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
