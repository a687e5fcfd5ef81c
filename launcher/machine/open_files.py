"""Which files processes have open."""

from pathlib import Path

import psutil


def is_open(file: Path) -> bool:
    """Whether a process, of those that may be asked, has a file open.

    Raises:
        OSError: the file is not there.
    """
    wanted = file.stat()
    for pid in psutil.pids():
        try:
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                found = descriptor.stat()
                if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                    return True
        except OSError:  # it ended, or is another person's
            continue
    return False
