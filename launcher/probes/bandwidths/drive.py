"""A drive as NVMe offload uses it: eight requests of a MiB under way, past the page cache."""

import errno
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher.errors import CannotRunHereError
from launcher.machine.bandwidths import DriveSpeed

BLOCK, UNDER_WAY = 1 << 20, 8
"""DeepSpeed's own ``aio.block_size`` and ``aio.queue_depth``."""
MOST_BLOCKS, MOST_SECONDS = 2048, 1.0
"""2 GiB, or what is written in a second."""


def drive_speed(folder: Path) -> DriveSpeed:
    """Writes a file below ``folder`` and reads it; nothing of it stays.

    Raises:
        CannotRunHereError: nothing can be written there.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".bandwidth-") as file:
            handle = _open(Path(file.name))
        return _measure(folder, handle)  # without a name: whatever ends this process, no file stays
    except OSError as error:
        raise CannotRunHereError(f"{folder} cannot be measured: {error.strerror}; name another folder") from error


def _measure(folder: Path, handle: int) -> DriveSpeed:
    memory = mmap.mmap(-1, UNDER_WAY * BLOCK)  # page-aligned, as O_DIRECT wants it
    memory.write(os.urandom(BLOCK) * UNDER_WAY)  # what a drive compresses is no measure
    parts = [memoryview(memory)[each * BLOCK : (each + 1) * BLOCK] for each in range(UNDER_WAY)]
    try:
        written, writing = _pass(lambda each, place: os.pwrite(handle, parts[each], place), MOST_BLOCKS, handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)  # where O_DIRECT was refused
        read, reading = _pass(lambda each, place: os.preadv(handle, [parts[each]], place), written, handle)
    finally:
        os.close(handle)
    return DriveSpeed(str(folder), written * BLOCK / writing / 1e9, read * BLOCK / reading / 1e9)


def _open(file: Path) -> int:
    try:
        return os.open(file, os.O_RDWR | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(file, os.O_RDWR)  # a file system in memory


def _pass(request: Callable[[int, int], int], most: int, handle: int) -> tuple[int, float]:
    """Blocks that were gone through, and the seconds that took."""
    begun, done = time.perf_counter(), 0
    with ThreadPoolExecutor(UNDER_WAY) as workers:
        while done < most and (not done or time.perf_counter() - begun < MOST_SECONDS):
            several = min(UNDER_WAY, most - done)
            list(workers.map(request, range(several), [(done + each) * BLOCK for each in range(several)]))
            done += several
    os.fsync(handle)
    return done, time.perf_counter() - begun
