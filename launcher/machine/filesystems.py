"""What lies below a folder: its filesystem, and the drive or part of one that this is on."""

import os
import re
import stat
from pathlib import Path

from launcher.machine.disk import nearest_existing

MOUNTINFO = Path("/proc/self/mountinfo")
SYS = Path("/sys")

IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "hugetlbfs"})
OVERLAYS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs", "unionfs"})
NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "vboxsf", "afs", "ceph", "lustre", "gpfs", "beegfs"}
    | {"glusterfs", "fuse.glusterfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "fuse.sshfs", "fuse.rclone", "fuse.s3fs"}
)


def filesystem(path: Path, mountinfo: Path = MOUNTINFO) -> tuple[str, str]:
    """Type and source of the filesystem a path is on, or will be, from the kernel's list (proc_pid_mountinfo(5)).

    Args:
        path: need not be there.
        mountinfo: what is mounted where; tests give their own.
    """
    path = nearest_existing(path).resolve()
    found = ("", "")
    deepest = -1
    for line in mountinfo.read_text().splitlines():
        place, _, mounted = line.partition(" - ")
        point = Path(_unescaped(place.split(" ")[4]))
        # What is mounted later on the same place hides what was there.
        if path.is_relative_to(point) and len(point.parts) >= deepest:
            deepest = len(point.parts)
            kind, source, *_ = mounted.split(" ")
            found = kind, _unescaped(source)
    return found


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def block_device(existing: Path, source: str, sys: Path) -> Path | None:
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
