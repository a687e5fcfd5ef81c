"""Checkpoints: whole or not at all, the newest kept, found again on resume.

What one is made of, and which can be continued, is ``launcher.runs.checkpoints``; a folder that is not whole is
ignored and named, never deleted because it did not load.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch

from launcher.errors import InvalidInputError, RefusedToOverwriteError, RunFailedError
from launcher.runs.checkpoints import (
    FACTS,
    Checkpoint,
    Identity,
    newest,
    numbered,
    what_changes,
    why_not_resumed,
)
from launcher.runs.directory import write_atomic
from launcher.runs.marker import MARKER, mark, why_not_whole
from launcher.train.distributed import World
from launcher.train.engine import Engine
from launcher.train.report import Report

GIB = 2**30


class Checkpoints:
    """The checkpoints of one output folder."""

    def __init__(self, output_dir: Path, keep: int, identity: Identity, world: World, report: Report) -> None:
        """Nothing is touched yet.

        Args:
            output_dir: checkpoints lie in its folder ``checkpoints``.
            keep: how many whole ones stay.
            identity: of this run.
            world: every rank saves and loads its own part.
            report: told of each save.
        """
        self._output_dir, self._folder = output_dir, output_dir / "checkpoints"
        self._keep, self._identity, self._world, self._report = keep, identity, world, report

    def save(self, engine: Engine, step: int) -> Path:
        """Writes ``checkpoint-N`` and then removes the oldest beyond the limit; every rank calls it.

        Raises:
            RunFailedError: the disk is full. What was saved before is untouched.
        """
        path = self._folder / f"checkpoint-{step}"
        started = time.monotonic()
        if self._world.is_main:
            with self._writing(path, step):
                # One of the same step did not finish, or it would have been resumed from.
                _discard(path)
                path.mkdir(parents=True)
        self._world.barrier()
        with self._report.phase("save"):
            with self._writing(path, step):
                engine.save(path)
            self._world.barrier()
            if self._world.is_main:
                with self._writing(path, step):
                    self._finish(path, step, engine.torch_adam, started)
        self._world.barrier()
        return path

    def find(self) -> Checkpoint | None:
        """The newest whole checkpoint, if there is one and this run can continue it; every rank calls it.

        Raises:
            InvalidInputError: it was made with another ZeRO stage, precision, optimizer or process count.
        """
        found = self._newest()
        if found is not None:
            if reason := why_not_resumed(found, self._identity):
                raise InvalidInputError(reason)
            for change in what_changes(found, self._identity):
                self._report.warning(change)
        return found

    def require_none(self) -> None:
        """Refuses to start over beside checkpoints of another run: the newest of both would count later.

        Raises:
            RefusedToOverwriteError: there are some.
        """
        found = self._newest()
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

    def _newest(self) -> Checkpoint | None:
        found = newest(self._output_dir, self._report.warning) if self._world.is_main else None
        return cast("Checkpoint | None", self._world.from_main(found))

    def _finish(self, path: Path, step: int, torch_adam: bool, started: float) -> None:
        facts: Mapping[str, Any] = {
            "step": step,
            **self._identity.facts(),
            "torch_adam": torch_adam,
            "versions": {name: version(name) for name in ("deepspeed", "torch", "diffusers")},
        }
        write_atomic(path / FACTS, json.dumps(facts, indent=2).encode())
        size = mark(path)
        removed = []
        # A folder without its marker is not ours to count or to remove: it was named at the start.
        whole = [old for old, _ in numbered(self._folder) if why_not_whole(old) is None]
        for old in whole[: -self._keep]:
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


def _discard(path: Path) -> None:
    """Removes a checkpoint, marker first, so that a half-removed one never counts."""
    (path / MARKER).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
