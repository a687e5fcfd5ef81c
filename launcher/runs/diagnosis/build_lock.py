"""A compile that waits for nobody: the lock of a build that was killed, where the processes of a run would build."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil

from launcher.machine.build_locks import build_locks


def stale_locks(processes: Iterable[psutil.Process]) -> list[Path]:
    """Locks that no build holds, in the folders of extensions that processes use.

    Args:
        processes: those that may be waiting.
    """
    folders = set()
    for process in processes:
        with suppress(psutil.Error, KeyError):  # it has ended; every plan names the folder
            folders.add(Path(process.environ()["TORCH_EXTENSIONS_DIR"]))
    return sorted(lock.path for folder in folders for lock in build_locks(folder) if lock.holder is None)
