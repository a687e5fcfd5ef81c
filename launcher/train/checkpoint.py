"""Checkpoints: whole or not at all, the newest kept, found again on resume.

What one is made of, and which can be continued, is ``launcher.runs.checkpoints``; a folder that is not whole is
ignored and named, one that is damaged set aside before its name is needed, and none deleted because it did not load.
"""

import errno
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from launcher.errors import InvalidInputError, RefusedToOverwriteError, RunFailedError
from launcher.runs.changes import what_changes
from launcher.runs.checkpoints import (
    FACTS,
    Checkpoint,
    Identity,
    not_whole,
    older_than,
    to_resume,
    was_whole,
    whole,
    why_not_resumed,
)
from launcher.runs.directory import write_atomic
from launcher.runs.marker import MARKER, bytes_of, mark, why_damaged
from launcher.train.distributed import World
from launcher.train.ema import MovingAverage
from launcher.train.engine import Engine
from launcher.train.report import Report

GIB = 2**30
DAMAGED = ".damaged"
"""What is added to the name of a checkpoint that is set aside."""

WriteWeights = Callable[[Engine, Path], None]
"""Writes the U-Net alone below a checkpoint's folder; every rank calls it."""


class Checkpoints:
    """The checkpoints of one output folder."""

    def __init__(
        self,
        output_dir: Path,
        keep: int,
        identity: Identity,
        world: World,
        report: Report,
        *,
        contents: str = "full",
    ) -> None:
        """Nothing is touched yet.

        Args:
            output_dir: checkpoints lie in its folder ``checkpoints``.
            keep: how many whole ones stay.
            identity: of this run.
            world: every rank saves and loads its own part.
            report: told of each save.
            contents: ``full``, ``weights`` or ``both``.
        """
        self._output_dir, self._folder, self._contents = output_dir, output_dir / "checkpoints", contents
        self._keep, self._identity, self._world, self._report = keep, identity, world, report

    def save(
        self,
        engine: Engine,
        step: int,
        write_weights: WriteWeights = lambda engine, folder: None,
        average: MovingAverage | None = None,
    ) -> Path:
        """Writes ``checkpoint-N`` and then removes the oldest beyond the limit; every rank calls it.

        Where the disk has no room for another, the oldest goes first if it would go afterwards.

        Args:
            engine: whose state is saved.
            step: trained so far.
            write_weights: writes the U-Net alone, where that is wanted.
            average: of the weights, saved beside the state.

        Raises:
            RunFailedError: the disk is full. What was saved before is untouched.
        """
        path = self._folder / f"checkpoint-{step}"
        started = time.monotonic()
        removed: list[str] = []
        if self._world.is_main:
            with self._writing(path, step):
                # One of the same step did not finish, was damaged, or an older one was named to continue from.
                if was_whole(path):
                    self._report.warning(f"{path} is damaged and is set aside as {_set_aside(path).name}")
                _discard(path)
                removed = self._make_room(path)
                path.mkdir(parents=True)
        self._world.barrier()
        with self._report.phase("save"):
            with self._writing(path, step):
                if self._contents != "weights":
                    engine.save(path)
                    if average is not None:
                        average.save(path)
                if self._contents != "full":
                    write_weights(engine, path)
            self._world.barrier()
            if self._world.is_main:
                with self._writing(path, step):
                    self._finish(path, step, engine.torch_adam, started, removed)
        self._world.barrier()
        return path

    def find(self, wanted: str = "latest") -> Checkpoint | None:
        """The checkpoint to continue, whole to its content, if there is one; every rank calls it.

        Of the newest, one whose content is damaged is set aside, told of, and the next older one taken.

        Args:
            wanted: ``latest``, the name of one, or ``no``.

        Raises:
            InvalidInputError: it was made with another ZeRO stage, precision, optimizer or process count; or the one
                that is named is not there or damaged.
            RefusedToOverwriteError: none is wanted, and there are some.
        """
        if wanted == "no":
            self.require_none()
            return None
        found = self._world.on_main(lambda: self._undamaged(wanted))
        for change in what_changes(found, self._identity) if found else ():
            self._report.warning(change)
        if wanted != "latest" and found and (newer := [each for each in whole(self._folder) if each.step > found.step]):
            self._report.warning(
                f"{found.path.name} is continued and {newer[-1].path.name} is newer: a later start with `latest` would "
                "continue that one; move it away if it is not wanted"
            )
        return found

    def _undamaged(self, wanted: str) -> Checkpoint | None:
        while True:
            found = to_resume(self._output_dir, wanted, self._report.warning)
            if found is None:
                return None
            if reason := why_not_resumed(found, self._identity):
                raise InvalidInputError(reason)
            with self._report.phase("verify"):
                damage = why_damaged(found.path)
            if damage is None:
                return found
            message = not_whole(found.path, damage)
            if wanted != "latest" or not older_than(found.path):
                raise InvalidInputError(f"{message}; remove it or move it away to go on without it")
            aside = _set_aside(found.path).name
            self._report.warning(f"{message} and is continued instead; the damaged one is set aside as {aside}")

    def require_none(self) -> None:
        """Refuses to start over beside checkpoints of another run: the newest of both would count later.

        Raises:
            RefusedToOverwriteError: there are some.
        """
        found = self._world.on_main(lambda: next(iter(whole(self._folder)[-1:]), None))
        if found is not None:
            raise RefusedToOverwriteError(
                f"{found.path} is there already, and training.resume_from_checkpoint is `no`; answer `latest` to "
                "continue it, or train into another output folder"
            )

    def resume(self, engine: Engine, checkpoint: Checkpoint | None) -> int:
        """Restores a checkpoint; every rank calls it.

        Returns:
            The number of steps already trained; 0 when there is nothing to resume.

        Raises:
            InvalidInputError: it is of a U-Net of another shape.
        """
        if checkpoint is None:
            return 0
        try:
            if checkpoint.universal:
                engine.load_universal(checkpoint.path, checkpoint.step)
            else:
                engine.load(checkpoint.path)
        except (KeyError, ValueError, RuntimeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise InvalidInputError(
                f"{checkpoint.path} could not be loaded into this U-Net ({_last_line(error)}); it was made with "
                f"{checkpoint.facts.get('model', 'another model')}"
            ) from error
        self._report.event("resumed", path=str(checkpoint.path), step=checkpoint.step)
        return checkpoint.step

    @contextmanager
    def _writing(self, path: Path, step: int) -> Iterator[None]:
        """What goes wrong while a checkpoint is written, in words; what there is of it is removed."""
        try:
            yield
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
            if isinstance(error, torch.OutOfMemoryError):
                raise
            free = shutil.disk_usage(next(place for place in path.parents if place.exists())).free
            _discard(path)
            raise RunFailedError(
                f"the checkpoint of step {step} could not be written to {path} "
                f"({free / GIB:.1f} GiB free there): {_last_line(error)}; earlier checkpoints are whole. "
                "Make room and start the run again: it continues from the newest"
            ) from error

    def _make_room(self, path: Path) -> list[str]:
        """Refuses a save for which there is no room, or removes what would go after it; returns what it removed.

        What it takes is what the last one of the same contents took; before the first, the preflight has looked.
        """
        made = whole(self._folder)
        alike = [bytes_of(each.path) for each in made if each.facts.get("contents", "full") == self._contents]
        needed, removed = alike[-1] if alike else 0, []
        for old in self._beyond_limit(path):
            if shutil.disk_usage(self._folder).free < needed:
                _discard(old)
                removed.append(old.name)
        if alike and (free := shutil.disk_usage(self._folder).free) < needed:
            raise OSError(
                errno.ENOSPC, f"it takes {needed / GIB:.1f} GiB, as the last one did, and {free / GIB:.1f} are free"
            )
        return removed

    def _beyond_limit(self, newest: Path) -> list[Path]:
        """What goes once the newest is there, oldest first: never the only one that can be resumed.

        A folder without its marker is not ours to count or to remove: it was named at the start.
        """
        others = [each for each in whole(self._folder) if each.path != newest]
        spare = others[: max(0, len(others) - (self._keep - 1))]
        replaced = self._contents != "weights" and (newest / MARKER).exists()
        stays = [] if replaced else [each for each in others if each.resumable][-1:]
        return [each.path for each in spare if each not in stays]

    def _finish(self, path: Path, step: int, torch_adam: bool, started: float, removed: list[str]) -> None:
        facts: Mapping[str, Any] = {
            "step": step,
            **self._identity.facts(),
            "contents": self._contents,
            "torch_adam": torch_adam,
            "versions": {name: version(name) for name in ("deepspeed", "torch", "diffusers")},
        }
        write_atomic(path / FACTS, json.dumps(facts, indent=2).encode())
        size = mark(path)
        for old in self._beyond_limit(path):
            _discard(old)
            removed.append(old.name)
        self._report.event(
            "checkpoint",
            path=str(path),
            step=step,
            bytes=size,
            seconds=round(time.monotonic() - started, 3),
            removed=removed,
        )


def _set_aside(path: Path) -> Path:
    """Renames a damaged checkpoint to what nothing reads, and nothing that was set aside before has."""
    first = path.with_name(path.name + DAMAGED)
    others = (first.with_name(f"{first.name}-{count}") for count in itertools.count(2))
    return path.rename(next(each for each in itertools.chain([first], others) if not each.exists()))


def _discard(path: Path) -> None:
    """Removes a checkpoint, marker first, so that a half-removed one never counts."""
    (path / MARKER).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
