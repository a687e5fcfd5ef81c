"""Checkpoints: whole or not at all, the newest kept, found again on resume.

A checkpoint is ``checkpoint-N`` with DeepSpeed's files, ``checkpoint.json`` (what it was made with) and,
written last, ``COMPLETE`` with the size of every file. A folder without a true marker is ignored and named,
never deleted because it did not load.
"""

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from launcher.errors import InvalidInputError, RefusedToOverwriteError, RunFailedError
from launcher.runs.directory import write_atomic
from launcher.train.distributed import World
from launcher.train.engine import Engine
from launcher.train.report import Report

MARKER = "COMPLETE"
FACTS = "checkpoint.json"
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Identity:
    """What a checkpoint must share with the run that resumes from it, and what it should."""

    zero_stage: int | None
    """None without DeepSpeed."""
    precision: str
    optimizer: str
    world_size: int
    seed: int
    global_batch_size: int
    pictures: int

    def facts(self) -> dict[str, Any]:
        """As ``checkpoint.json`` stores it."""
        return {name: getattr(self, name) for name in self.__slots__}


MUST_AGREE = {
    "zero_stage": "ZeRO stage",
    "precision": "precision",
    "optimizer": "optimizer",
    "world_size": "number of processes",
}
"""No engine can load a state across these: DeepSpeed fails with an empty message, or needs other files."""

SHOULD_AGREE = {
    "seed": "seed",
    "global_batch_size": "global batch size",
    "pictures": "number of pictures",
}
"""These change the data order from here on."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A whole checkpoint on disk."""

    path: Path
    step: int
    facts: Mapping[str, Any]
    """What it was made with: :class:`Identity` and the optimizer's implementation."""

    @property
    def torch_adam(self) -> bool:
        """Whether its optimizer state is torch's own AdamW's, which CPUAdam cannot read."""
        return bool(self.facts.get("torch_adam"))


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
        self._folder = output_dir / "checkpoints"
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
        newest: Checkpoint | None = self._world.from_main(self._newest() if self._world.is_main else None)
        if newest is not None:
            self._check_identity(newest)
        return newest

    def require_none(self) -> None:
        """Refuses to start over beside checkpoints of another run: the newest of both would count later.

        Raises:
            RefusedToOverwriteError: there are some.
        """
        newest = self._world.from_main(self._newest() if self._world.is_main else None)
        if newest is not None:
            raise RefusedToOverwriteError(
                f"{newest.path} is there already, and training.resume_from_checkpoint is `no`; answer `latest` to "
                "continue it, or train into another output folder"
            )

    def resume(self, engine: Engine, checkpoint: Checkpoint | None) -> int:
        """Restores a checkpoint; every rank calls it.

        Returns:
            The number of steps already trained; 0 when there is nothing to resume.
        """
        if checkpoint is None:
            return 0
        engine.load(checkpoint.path)
        self._report.event("resumed", path=str(checkpoint.path), step=checkpoint.step)
        return checkpoint.step

    @contextmanager
    def _writing(self, path: Path, step: int) -> Iterator[None]:
        """What goes wrong while a checkpoint is written, in words; what there is of it is removed."""
        try:
            yield
        except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
            free = shutil.disk_usage(next(place for place in path.parents if place.exists())).free
            _discard(path)
            raise RunFailedError(
                f"the checkpoint of step {step} could not be written to {path} "
                f"({free / GIB:.1f} GiB free there): {_last_line(error)}; earlier checkpoints are whole. "
                "Make room and start the run again: it continues from the newest"
            ) from error

    def _newest(self) -> Checkpoint | None:
        whole = []
        for path, step in _numbered(self._folder):
            reason = _not_whole(path)
            if reason is None:
                whole.append((path, step))
            else:
                self._report.warning(f"{path} is not a whole checkpoint ({reason}) and is ignored")
        if not whole:
            return None
        path, step = whole[-1]
        return Checkpoint(path, step, json.loads((path / FACTS).read_bytes()))

    def _check_identity(self, checkpoint: Checkpoint) -> None:
        made_with = checkpoint.facts
        mine = self._identity.facts()
        differs = [
            f"{name} {_named(made_with.get(key))} there, {_named(mine[key])} here"
            for key, name in MUST_AGREE.items()
            if made_with.get(key) != mine[key]
        ]
        if differs:
            raise InvalidInputError(
                f"{checkpoint.path} cannot be resumed with these settings: {'; '.join(differs)}. Use its own "
                "settings, or train into another output folder"
            )
        for key, name in SHOULD_AGREE.items():
            if made_with.get(key) != mine[key]:
                self._report.warning(
                    f"{checkpoint.path} was made with {name} {made_with.get(key)}, now {mine[key]}: "
                    "the data order changes from here on"
                )

    def _finish(self, path: Path, step: int, torch_adam: bool, started: float) -> None:
        facts: Mapping[str, Any] = {
            "step": step,
            **self._identity.facts(),
            "torch_adam": torch_adam,
            "versions": {name: version(name) for name in ("deepspeed", "torch", "diffusers")},
        }
        write_atomic(path / FACTS, json.dumps(facts, indent=2).encode())
        sizes = {str(file.relative_to(path)): file.stat().st_size for file in _files(path)}
        write_atomic(path / MARKER, json.dumps(sizes, indent=2).encode())
        removed = []
        # A folder without its marker is not ours to count or to remove: it was named at the start.
        whole = [old for old, _ in _numbered(self._folder) if _not_whole(old) is None]
        for old in whole[: -self._keep]:
            _discard(old)
            removed.append(old.name)
        self._report.event(
            "checkpoint",
            path=str(path),
            step=step,
            bytes=sum(sizes.values()),
            seconds=round(time.monotonic() - started, 3),
            removed=removed,
        )


def _named(value: object) -> str:
    return "none (plain PyTorch)" if value is None else str(value)


def _numbered(folder: Path) -> list[tuple[Path, int]]:
    """Checkpoint folders, oldest first, whole or not."""
    found = [
        (path, int(match[1]))
        for path in folder.glob("checkpoint-*")
        if (match := re.fullmatch(r"checkpoint-(\d+)", path.name))
    ]
    return sorted(found, key=lambda item: item[1])


def _not_whole(path: Path) -> str | None:
    """Why a folder is not a whole checkpoint; None when it is."""
    try:
        sizes = dict(json.loads((path / MARKER).read_bytes()))
    except FileNotFoundError:
        return f"no {MARKER} marker: its save did not finish"
    except (OSError, ValueError, TypeError) as error:
        return f"{MARKER} is unreadable: {error}"
    for name, size in sizes.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes instead of {size}"
    return None


def _discard(path: Path) -> None:
    """Removes a checkpoint, marker first, so that a half-removed one never counts."""
    (path / MARKER).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)


def _files(path: Path) -> list[Path]:
    return [file for file in sorted(path.rglob("*")) if file.is_file() and file.name != MARKER]


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
