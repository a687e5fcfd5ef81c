"""A compile that waits for nobody: the lock of a build that was killed.

torch guards the build of an extension by a file beside it, which it removes at the end. A build that was killed leaves
it, and every later one waits for it without end and without a word (``torch/utils/file_baton.py``).
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import psutil

from launcher.machine.open_files import is_open

BATON = "lock"
DEFAULT = Path(".cache/torch_extensions")
"""Below the home folder, where TORCH_EXTENSIONS_DIR names no other; torch adds a folder for Python and CUDA."""


def is_stale(baton: Path) -> bool:
    """Whether the lock of a build is there, and no process has it open as a build does."""
    try:
        return baton.exists() and not is_open(baton)
    except OSError:  # gone meanwhile
        return False


def stale_locks(processes: Iterable[int]) -> list[Path]:
    """Locks that no build holds, in the folders of extensions that processes use.

    Args:
        processes: those that may be waiting.
    """
    batons = {baton for pid in processes for folder in _folders(_environment(pid)) for baton in _batons(folder)}
    return sorted(baton for baton in batons if is_stale(baton))


def _environment(pid: int) -> Mapping[str, str]:
    try:
        return psutil.Process(pid).environ()
    except psutil.Error:
        return {}


def _folders(environment: Mapping[str, str]) -> list[Path]:
    if named := environment.get("TORCH_EXTENSIONS_DIR"):
        return [Path(named)]
    home = environment.get("HOME")
    return [Path(home) / DEFAULT] if home else []


def _batons(folder: Path) -> Iterator[Path]:
    """Of extensions in a folder, or in those for each Python and CUDA in it."""
    for place, folders, files in os.walk(folder):
        if BATON in files:
            yield Path(place) / BATON
        if len(Path(place).relative_to(folder).parts) == 2:
            folders.clear()
