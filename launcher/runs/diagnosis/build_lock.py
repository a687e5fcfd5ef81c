"""A compile that waits for nobody: the lock of a build that was killed, where the processes of a run would build."""

from collections.abc import Iterable
from pathlib import Path

import psutil

from launcher.machine.build_locks import build_locks

DEFAULT = Path(".cache/torch_extensions")
"""Below the home folder, where TORCH_EXTENSIONS_DIR names no other; torch adds a folder for Python and CUDA."""


def stale_locks(processes: Iterable[int]) -> list[Path]:
    """Locks that no build holds, in the folders of extensions that processes use.

    Args:
        processes: those that may be waiting.
    """
    folders = {folder for pid in processes for folder in _folders(pid)}
    return sorted(lock.path for folder in folders for lock in build_locks(folder) if lock.holder is None)


def _folders(pid: int) -> list[Path]:
    try:
        environment = psutil.Process(pid).environ()
    except psutil.Error:
        return []
    if named := environment.get("TORCH_EXTENSIONS_DIR"):
        return [Path(named)]
    home = environment.get("HOME")
    return [folder for folder in (Path(home) / DEFAULT).glob("*") if folder.is_dir()] if home else []
