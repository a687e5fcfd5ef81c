"""Where a run swaps to: a folder of its own below each NVMe path. Torch-free.

DeepSpeed names its files by parameter and rank only, so two runs on one path would overwrite each other's, and what one
leaves behind would be copied into every checkpoint of the next. Whoever swaps holds its folder by a lock file with its
pid, start time and host in it, so that what the dead left behind can be told from what the living need.
"""

import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import RefusedToOverwriteError
from launcher.machine.disk import bytes_below
from launcher.runs.processes import ProcessIdentity

OWNER = "owner.json"
"""The lock file. A folder without one is none of ours, whatever it is called, and is left alone."""


def swap_folders(config: Mapping[str, Any], run: Path) -> dict[str, Path]:
    """The folder below each NVMe path in use, by the path's place in DeepSpeed's JSON; below stage 3 none is.

    Args:
        config: as deepspeed.json holds it.
        run: the run directory; relative NVMe paths count from it.
    """
    run = run.resolve()
    zero = config["zero_optimization"]
    name = f"{run.name}-{hashlib.sha256(str(run).encode()).hexdigest()[:8]}"
    return {
        f"zero_optimization.{part}.nvme_path": run / zero[part]["nvme_path"] / name
        for part in ("offload_optimizer", "offload_param")
        if zero["stage"] == 3 and zero.get(part, {}).get("device") == "nvme"
    }


@dataclass(frozen=True, slots=True)
class Removed:
    """What a dead run had left."""

    path: Path
    bytes: int


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What became of what lay beside a run's own folders."""

    removed: tuple[Removed, ...]
    left: tuple[str, ...]
    """Sentences about what could be in the way and is not ours to remove."""


@contextmanager
def owned(folders: Iterable[Path]) -> Iterator[Cleaned]:
    """Holds a run's folders while it swaps, after what dead runs left beside them is gone; then removes them.

    Nothing but folders with a lock file is removed, none through a link, none whose owner lives or is on another host.
    What cannot be removed is no reason to stop.

    Args:
        folders: as :func:`swap_folders` names them.

    Raises:
        RefusedToOverwriteError: a living process holds one of them.
    """
    mine = list(dict.fromkeys(folders))
    removed: list[Removed] = []
    left: list[str] = []
    for root in dict.fromkeys(folder.parent for folder in mine):
        for folder in _folders_in(root):
            if folder not in mine:
                _clean(folder, removed, left)
    handles = [_take(folder, removed) for folder in mine]
    try:
        yield Cleaned(tuple(removed), tuple(left))
    finally:
        for folder, handle in zip(mine, handles, strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)


def _folders_in(root: Path) -> list[Path]:
    """Folders that have a lock file; links are passed over, as they may lead anywhere."""
    try:
        with os.scandir(root) as entries:
            found = [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:  # not there yet, or not to be read: preflight and DeepSpeed say so
        return []
    return sorted(folder for folder in found if os.path.lexists(folder / OWNER))


def _clean(folder: Path, removed: list[Removed], left: list[str]) -> None:
    try:
        handle = os.open(folder / OWNER, os.O_RDWR | os.O_NOFOLLOW)
    except OSError as error:
        left.append(f"{folder} may be left by a dead run, and cannot be looked into ({error.strerror})")
        return
    try:
        owner = _read(handle)
        if not _locks(handle) or _lives(owner):
            return
        host = owner.get("host")
        if host != socket.gethostname():
            whose = f"of {host}" if host else "of nobody who is named"
            left.append(f"{folder} is {whose}, whose processes cannot be seen from here; remove it if that run is over")
            return
        size = bytes_below(folder)
        shutil.rmtree(folder)
        removed.append(Removed(folder, size))
    except OSError as error:
        left.append(f"{folder} was left by a dead run, and cannot be removed ({error.strerror}); remove it by hand")
    finally:
        os.close(handle)


def _take(folder: Path, removed: list[Removed]) -> int:
    """The folder, empty and with this process's lock file in it, which is held as long as the handle is open."""
    if folder.is_symlink():
        folder.unlink()
    with suppress(FileNotFoundError):
        handle = os.open(folder / OWNER, os.O_RDWR | os.O_NOFOLLOW)
        try:
            if not _locks(handle):
                owner = _read(handle)
                who = f"process {owner.get('pid')} on {owner.get('host')}"
                raise RefusedToOverwriteError(f"{folder} is swapped to by {who}; end that run first")
        finally:
            os.close(handle)
    if folder.exists():
        removed.append(Removed(folder, bytes_below(folder)))
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / OWNER, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    _locks(handle)
    identity = ProcessIdentity.of(os.getpid())
    os.write(handle, json.dumps({**identity.to_json(), "host": socket.gethostname()}).encode())
    return handle


def _read(handle: int) -> dict[str, Any]:
    try:
        content = json.loads(os.pread(handle, 4096, 0))
    except ValueError:  # killed before it had written a word
        return {}
    return content if isinstance(content, dict) else {}


def _locks(handle: int) -> bool:
    """Takes the lock; False where another process holds it. The kernel drops it with its process."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a filesystem without locks: the process itself is looked for
        return True
    return True


def _lives(owner: Mapping[str, Any]) -> bool:
    identity = ProcessIdentity.from_json(owner)
    return owner.get("host") == socket.gethostname() and identity is not None and identity.alive
