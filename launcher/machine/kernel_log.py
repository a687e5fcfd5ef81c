"""What the kernel says of processes that it killed and of GPUs that failed, where it may be read."""

import os
import re
from pathlib import Path

import psutil

WORTH = re.compile(r"oom-kill:|[Oo]ut of memory: Killed process|NVRM: Xid|segfault at|traps: ")
LONGEST = 8192
"""Bytes of a record (``PRINTK_MESSAGE_MAX`` of the kernel is less)."""


def kernel_log(since: float, device: Path = Path("/dev/kmsg")) -> list[str]:
    """Its lines of that kind since a time in seconds since the epoch; none where it may not be read."""
    try:
        handle = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:  # a container has none, an ordinary user may not
        return []
    lines = []
    begin = (since - psutil.boot_time()) * 1e6  # once: a log has thousands of records
    try:
        while record := _next(handle):
            # "priority,sequence,microseconds since boot,flags;text": Documentation/ABI/testing/dev-kmsg
            head, _, text = record.partition(";")
            if int(head.split(",")[2]) >= begin and WORTH.search(text):
                lines.append(text.splitlines()[0])
    except (OSError, ValueError, LookupError):
        return lines
    finally:
        os.close(handle)
    return lines


def _next(handle: int) -> str:
    """The next record; empty after the last."""
    while True:
        try:
            return os.read(handle, LONGEST).decode("utf-8", "replace")
        except BlockingIOError:
            return ""
        except BrokenPipeError:  # overwritten meanwhile: the next read is of what is left
            continue
