"""The lock files by which torch guards a build of an extension, and who holds them.

A build makes the file, keeps it open and removes it at its end (``torch/utils/file_baton.py``). One that was killed
leaves it, and every later build of that extension waits for it without end and without a word.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil

LOCK = "lock"
"""Name of the file, in the folder of an extension."""


@dataclass(frozen=True, slots=True)
class BuildLock:
    """One lock file that is there."""

    path: Path
    """``EXTENSION/lock`` in the folder of extensions."""
    holder: int | None
    """The process that builds; None: it was left behind."""
    since: float
    """When it was made, in seconds since the epoch."""

    @property
    def extension(self) -> str:
        """What is, or was, being built."""
        return self.path.parent.name


def build_locks(folder: Path) -> tuple[BuildLock, ...]:
    """Every lock in a folder of extensions, which need not be there: by its path."""
    found = []
    for path in sorted(folder.glob(f"*/{LOCK}")):
        try:
            found.append(BuildLock(path, holder(path), path.stat().st_mtime))
        except OSError:  # its build has just ended
            continue
    return tuple(found)


def holder(file: Path) -> int | None:
    """The process, of those that may be asked, that has ``file`` open; None: there is none.

    Raises:
        OSError: it is not there.
    """
    wanted = file.stat()
    for pid in psutil.pids():
        try:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                found = descriptor.stat()
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return pid
        except OSError:  # it ended, or is another person's
            continue
    return None
