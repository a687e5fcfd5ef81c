"""The trace that a run's GPU memory is played back from: it comes with the package, was made here, or is to be made.

What is made here is kept below ``XDG_CACHE_HOME``, or ``~/.cache``, by everything that it follows from.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path

from launcher.config.settings import Settings
from launcher.config.training import AdapterSettings
from launcher.estimate.adapter import trained
from launcher.estimate.model import SDXL, ModelFacts
from launcher.estimate.trace import Trace, shipped
from launcher.estimate.traffic import checkpointed
from launcher.machine.cache import cache_folder
from launcher.machine.packages import installed_version

PACKAGES = ("simpletuner-tui", "torch", "diffusers", "peft")
"""Whose versions a trace follows from."""
DAMAGED = (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError)
"""What reading a file that is not whole can raise."""
_failed: "dict[UNetStep, str]" = {}
"""Why what could not be made could not; the next process tries again."""


@dataclass(frozen=True, slots=True)
class UNetStep:
    """A training step of a U-Net, as far as a trace follows from it."""

    config: str
    """Of the U-Net, as JSON; empty where it is of another kind than SDXL's."""
    parameters: int
    """All that are computed with, those of an adapter included."""
    granularity: str
    """Of gradient checkpointing: ``none``, ``transformer_blocks`` or ``all``."""
    half: bool
    """Whether weights have two bytes."""
    lora_rank: int = 0
    """0 without an adapter."""
    lora_targets: tuple[str, ...] = ()
    lora_dropout: bool = False


def step_of(settings: Settings, model: ModelFacts) -> UNetStep:
    """The step that a run repeats.

    Args:
        settings: of the run.
        model: that it trains.
    """
    adapter = settings.training.adapter
    lora = (adapter.lora_rank, adapter.targets, adapter.lora_dropout > 0) if adapter.is_lora else ()
    half, parameters = settings.deepspeed.precision != "no", trained(adapter, model).held
    return UNetStep(model.config, parameters, checkpointed(settings), half, *lora)


def find(step: UNetStep) -> Trace | None:
    """Its trace, where there is one."""
    if (kind := _shipped_as(step)) is not None:
        return shipped(step.granularity, kind)
    file = trace_file(step)
    try:
        return _read(file, file.stat().st_mtime_ns)
    except OSError:
        return None


def why_none(step: UNetStep) -> str:
    """Why it cannot be traced; empty where that is not known yet."""
    return _failed.get(step, "") if step.config else "it is of another kind than SDXL's"


def is_to_come(step: UNetStep) -> bool:
    """Whether :func:`make` would have something to do."""
    return find(step) is None and not why_none(step)


def make(step: UNetStep) -> Iterator[None]:
    """Has a step traced, unless it is or cannot be; yields, without a pause, until a process of its own has done it.

    One that another interface began is waited for.
    """
    process = None
    while is_to_come(step):
        if process is None:
            process = _begin(step)
        elif process.poll() is not None:
            if find(step) is None:
                _failed[step] = _last_words(step)
            return
        yield


def trace_file(step: UNetStep) -> Path:
    """Where its trace is kept."""
    follows_from = json.dumps([asdict(step), _versions()])
    digest = hashlib.sha256(follows_from.encode()).hexdigest()[:16]
    return cache_folder("traces") / f"{digest}.json.gz"


def _shipped_as(step: UNetStep) -> str | None:
    if step.config != SDXL.config:
        return None
    default = AdapterSettings()
    if not step.lora_rank:
        return "" if step.half else "fp32"
    lora = (step.half, step.lora_rank, step.lora_targets, step.lora_dropout)
    return "lora" if lora == (True, default.lora_rank, default.targets, False) else None


@lru_cache(maxsize=16)
def _read(file: Path, changed: int) -> Trace | None:
    """None where it is damaged; ``changed`` tells one content from another."""
    try:
        return Trace.from_bytes(file.read_bytes())
    except DAMAGED:
        return None


@cache
def _versions() -> tuple[str | None, ...]:
    return tuple(map(installed_version, PACKAGES))


def _begin(step: UNetStep) -> "subprocess.Popen[bytes] | None":
    """The process that makes a trace; None while another one does, which holds the lock for as long as it lives."""
    file = trace_file(step)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with _beside(file, "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if find(step) is not None:  # another one has just made it
                return None
            with _beside(file, "log").open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "launcher.probes.trace", "-", str(file)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock.fileno()],
                    start_new_session=True,  # what was begun is finished, whoever has left meanwhile
                    env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
                )
    except BlockingIOError:
        return None
    except OSError as error:
        _failed[step] = str(error)
        return None
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as job:  # where it has ended already, its log says why
        job.write(json.dumps(asdict(step)).encode())
    return process


def _last_words(step: UNetStep) -> str:
    """What the process that failed said last."""
    log = _beside(trace_file(step), "log")
    try:
        return log.read_text(errors="replace").rstrip().rpartition("\n")[2] or f"see {log}"
    except OSError as error:
        return str(error)


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(f"{file.name.partition('.')[0]}.{suffix}")
