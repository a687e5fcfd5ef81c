"""The disks below some folders, look after look: space, and what goes to and from the drive."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher.machine.disk import nearest_existing
from launcher.machine.filesystems import IN_MEMORY, MOUNTINFO, NETWORK, OVERLAYS, SYS, block_device, filesystem
from launcher.machine.sample import DiskSample, Figure, Unknown

MIB = 2**20
SECTOR = 512
"""Bytes that the kernel counts in, whatever the drive's own sectors are."""
FIRST_LOOK = Unknown("known from the second look on")


class DiskReader:
    """Reads the same folders' disks again and again."""

    def __init__(
        self,
        folders: Sequence[Path],
        *,
        clock: Callable[[], float] = time.monotonic,
        mountinfo: Path = MOUNTINFO,
        sys: Path = SYS,
    ) -> None:
        """Says which.

        Args:
            folders: absolute; they may not be there yet.
            clock: seconds.
            mountinfo: what is mounted where; tests give their own.
            sys: where the kernel describes drives; tests give their own.
        """
        self._folders, self._clock, self._mountinfo, self._sys = folders, clock, mountinfo, sys
        self._drives: dict[int, Path | Unknown] = {}
        """By the number of a filesystem: where the kernel counts for its drive, or why it does not."""
        self._before: dict[Path, tuple[float, int, int]] = {}
        """By that place: when it was read, and bytes read and written until then."""

    def __call__(self) -> list[DiskSample]:
        """The disks now; one that cannot be looked at, such as of a server that is gone, is left out."""
        counted: dict[Path, tuple[Figure, Figure]] = {}
        found = []
        for folder in self._folders:
            try:
                existing = nearest_existing(folder)
                usage = shutil.disk_usage(existing)
                number = existing.stat().st_dev
                drive = self._drive(existing, number)
                if isinstance(drive, Unknown):
                    rates: tuple[Figure, Figure] = (drive, drive)
                else:
                    if drive not in counted:  # two folders may lie on one drive
                        counted[drive] = self._rates(drive)
                    rates = counted[drive]
            except OSError:
                continue
            found.append(DiskSample(folder, number, usage.total // MIB, usage.free // MIB, *rates))
        return found

    def _drive(self, existing: Path, number: int) -> Path | Unknown:
        if number not in self._drives:
            real = existing.resolve()
            kind, source = filesystem(real, self._mountinfo)
            device = block_device(real, source, self._sys)
            counts = device / "stat" if device else None
            self._drives[number] = counts if counts and counts.exists() else Unknown(_why_no_drive(kind))
        return self._drives[number]

    def _rates(self, counts: Path) -> tuple[Figure, Figure]:
        numbers = counts.read_text().split()
        now = (self._clock(), int(numbers[2]) * SECTOR, int(numbers[6]) * SECTOR)
        before = self._before.get(counts)
        self._before[counts] = now
        if before is None or now[0] <= before[0]:
            return FIRST_LOOK, FIRST_LOOK
        seconds = now[0] - before[0]
        return (now[1] - before[1]) / MIB / seconds, (now[2] - before[2]) / MIB / seconds


def _why_no_drive(kind: str) -> str:
    if kind in IN_MEMORY:
        return f"it is in host memory ({kind})"
    if kind in OVERLAYS:
        return f"it is inside a container's own filesystem ({kind})"
    if kind in NETWORK:
        return f"it is on a network filesystem ({kind})"
    return f"no drive is found below it ({kind})"
