"""A rehearsal: a run of two optimizer steps that saves nothing. Torch-free.

``plan.json`` says that a run is one; what it measured (``rehearsed``) stands in its events, as in those of any run.
"""

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from launcher.runs.directory import RunDirectory, read_json
from launcher.runs.index import forget
from launcher.runs.marker import mark
from launcher.runs.state import Status, status

STEPS = 2
"""Optimizer steps of a rehearsal: the first allocates and compiles, the second is as all others."""
PREFIX = ".rehearsal-"
"""What the names of their run directories begin with."""
KEPT_SECONDS = 60.0
"""How long one that is over stays for whoever follows it."""
SAMPLE_MIB = 256
"""Of a checkpoint, what is written to tell how long one takes."""
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What makes a run a rehearsal, as ``plan.json`` holds it."""

    steps: int
    checkpoint_mib: int
    """What each checkpoint of the run takes."""
    saves_here: bool
    """Whether the run saves to the disk that the rehearsal lies on, whose speed it can measure."""


def rehearsal_of(run: RunDirectory) -> Rehearsal | None:
    """What a run rehearses; None where it is no rehearsal."""
    told = (read_json(run.plan_json) or {}).get("rehearsal")
    return Rehearsal(**told) if told else None


def write_sample(folder: Path, checkpoint_mib: int) -> tuple[int, float]:
    """Writes a part of a checkpoint as a save does, until it is on the disk and has its checksums; removes it again.

    Args:
        folder: on the disk in question.
        checkpoint_mib: what a checkpoint takes; a sample is no larger.

    Returns:
        Bytes and seconds.

    Raises:
        OSError: there is no room for it.
    """
    block, blocks = os.urandom(MIB), max(1, min(SAMPLE_MIB, checkpoint_mib))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        started = time.monotonic()
        with Path(name, "sample").open("wb") as file:
            for _ in range(blocks):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        return mark(Path(name)), time.monotonic() - started


def remove(run: RunDirectory) -> None:
    """Removes a rehearsal that is over; its caches lie elsewhere and stay."""
    shutil.rmtree(run.path, ignore_errors=True)
    forget(run)


def remove_older(folder: Path) -> None:
    """Removes rehearsals that nobody waited for; those that failed stay until a person removes them.

    Args:
        folder: where run directories lie.
    """
    for path in folder.glob(f"{PREFIX}*"):
        run = RunDirectory(path)
        current = status(run)
        over = current.status in (Status.COMPLETED, Status.STOPPED)
        if over and rehearsal_of(run) and time.time() - float(current.state["ended"]) > KEPT_SECONDS:
            remove(run)
