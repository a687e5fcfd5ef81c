"""Removing a run's directory: what a run wrote there and nothing else, and no run that still goes."""

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import InvalidInputError, RefusedToOverwriteError
from launcher.runs.checkpoints import numbered
from launcher.runs.directory import MACHINE, RunDirectory
from launcher.runs.index import forget
from launcher.runs.state import Status, status

FOLDERS = ("checkpoints", "pipeline", "lora", "samples", "tensorboard", "wandb")
"""What a run writes beside the files that its directory names."""
PASSED_ON = ".deepspeed_env"
"""What a launch over SSH writes there, and removes at its end."""
BEATS_ELSEWHERE = 60.0
"""Seconds for which a heartbeat that stopped may be one of another machine, whose lock is not seen from here."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What would be removed of a run, and what not."""

    run: RunDirectory
    removed: tuple[Path, ...]
    """Files, folders and links in its directory."""
    mib: float
    """What they take; what links lead to is not counted."""
    checkpoints: tuple[str, ...]
    """Names of those among it, oldest first."""
    stays: tuple[Path, ...]
    """What else lies in its directory, which stays for it."""
    elsewhere: tuple[Path, ...]
    """Folders of its own that are elsewhere: that of its output, and what links lead to."""


def removal(run: RunDirectory) -> Removal:
    """Looks what would be removed of a run.

    Raises:
        InvalidInputError: it is no run directory, or a link to one.
        RefusedToOverwriteError: it goes on.
    """
    refuse_going(run)
    listed = sorted(run.path.iterdir())
    removed = tuple(path for path in listed if _is_own(run, path))
    elsewhere = [path.resolve() for path in removed if path.is_symlink()]
    with suppress(InvalidInputError):  # without its settings nobody knows of another folder
        if run.output_dir().resolve() != run.path:
            elsewhere.append(run.output_dir())
    return Removal(
        run,
        removed,
        sum(map(_bytes, removed)) / 2**20,
        tuple(path.name for path, _ in numbered(run.path / "checkpoints")),
        tuple(path for path in listed if path not in removed),
        tuple(elsewhere),
    )


def remove_run(run: RunDirectory) -> None:
    """Removes what a run wrote in its directory, that too unless something else lies there, and its name.

    Links are removed, never what they lead to.

    Raises:
        InvalidInputError: it is no run directory, or the disk refuses.
        RefusedToOverwriteError: it goes on.
    """
    planned = removal(run)
    try:
        with _held(run):
            last = (run.plan_json, run.lock)  # what is left of it by a power cut can be removed again
            for path in (*(path for path in planned.removed if path not in last), *last):
                _remove(path)
        with suppress(OSError):  # something else lies there
            run.path.rmdir()
    except OSError as error:
        raise InvalidInputError(f"{error.filename or run.path} cannot be removed: {error.strerror}") from error
    forget(run)


def refuse_going(run: RunDirectory) -> None:
    """Refuses what must not be removed.

    Raises:
        InvalidInputError: it is no run directory, or a link to one.
        RefusedToOverwriteError: it goes on, here or on another machine, or a part of it does.
    """
    if run.path.is_symlink() or not run.plan_json.is_file():
        raise InvalidInputError(f"{run.path} is no run directory; `simpletuner-tui runs` lists those there are")
    trains = run.trains()
    for each in {part.path: part for part in (run, trains, *_machines(run))}.values():
        now = status(each)
        if now.going:
            raise RefusedToOverwriteError(f"{each.name} goes on; end it with `simpletuner-tui stop {each.name}` first")
        ago = time.time() - float(now.state.get("heartbeat") or 0)
        if now.status is Status.LOST and ago < BEATS_ELSEWHERE:
            raise RefusedToOverwriteError(
                f"{each.name} was alive {ago:.0f} s ago, and may be on another machine; stop it there, or wait a minute"
            )


def _machines(run: RunDirectory) -> Iterator[RunDirectory]:
    return (RunDirectory(path) for path in sorted(run.path.glob(f"{MACHINE}*")) if path.is_dir())


@contextmanager
def _held(run: RunDirectory) -> Iterator[None]:
    """Holds a run as its supervisor would, so that none starts meanwhile."""
    with run.lock.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RefusedToOverwriteError(f"{run.name} was just started, or is looked at; try again") from None
        yield


def _is_own(run: RunDirectory, path: Path) -> bool:
    told = [getattr(run, name) for name in dir(RunDirectory) if not name.startswith("_")]
    files = {file.name for file in told if isinstance(file, Path) and file != run.path}
    halves = tuple(f".{name}." for name in files)  # of a write that was cut off
    name = path.name
    machine = name.removeprefix(MACHINE)
    is_machine = name.startswith(MACHINE) and machine.isdigit()
    return name in {*files, *FOLDERS, PASSED_ON} or is_machine or name.startswith(halves)


def _bytes(path: Path) -> int:
    try:
        there = path.lstat()
        if not stat.S_ISDIR(there.st_mode):
            return there.st_size
        with os.scandir(path) as entries:
            return sum(_bytes(Path(entry.path)) for entry in entries)
    except OSError:  # gone since, or not ours to look at
        return 0


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
