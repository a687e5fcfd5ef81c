"""Fresh processes, looked at from before they start until they have ended."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.reading import result
from benchmarks.sampling import Sampler
from launcher.machine.gpus import Gpu
from launcher.machine.host import read_host
from launcher.machine.toolchain import extensions_folder
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events
from launcher.runs.processes import processes_of_run
from launcher.runs.state import status

ROOT = Path(__file__).parents[1]
LONGEST = 280.0
"""Seconds of a measurement."""
LAUNCH = "accelerate.commands.launch"
"""In the command line of what starts training processes, beside theirs."""
ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Left to each side: a plan chooses expandable segments, stock leaves torch's default."""


@dataclass(frozen=True, slots=True)
class Command:
    """What is measured."""

    argv: Sequence[str]
    environments: Sequence[dict[str, str]]
    """Of each process that is started."""
    events: Path
    log: Path
    module: str
    """In the command line of the processes that train, with ``told``."""
    told: str
    run: RunDirectory | None = None
    """Whose processes, in sessions of their own, are ended with it."""
    folder: Path = ROOT


def measure(command: Command, gpus: Sequence[Gpu]) -> dict[str, Any]:
    """Runs it to its end; what failed holds ``code`` and the end of its ``log``.

    ``before_seconds`` passed until its first event, ``after_seconds`` from its last to the end of its processes.
    """

    def trains(line: list[str]) -> bool:
        return command.module in line and command.told in line and LAUNCH not in line

    def steps_are_timed() -> bool:
        told = command.events.read_bytes() if command.events.exists() else b""
        return b'"event": "step"' in told and b'"phase": "save"' not in told

    command.events.unlink(missing_ok=True)
    sampler, began = Sampler([gpu.uuid for gpu in gpus], trains, steps_are_timed), time.time()
    with command.log.open("wb") as log, sampler.running():
        processes = [
            subprocess.Popen(command.argv, env=environment, stdout=log, stderr=log, cwd=command.folder)
            for environment in command.environments
        ]
        code = _wait(processes, command.run)
    ended, (events, _) = time.time(), read_events(command.events)
    first, last = (events[0]["time"], events[-1]["time"]) if events else (ended, ended)
    measured = {
        "code": code,
        "seconds": round(ended - began, 1),
        "before_seconds": round(first - began, 1),
        "after_seconds": round(ended - last, 1),
        **result(events, sampler),
    }
    if code:
        own = command.run.log if command.run else command.log
        measured["log"] = (own if own.exists() else command.log).read_text(errors="replace")[-3000:]
    return measured


def _wait(processes: Sequence[subprocess.Popen[bytes]], run: RunDirectory | None) -> int:
    """The first exit code that is none of success; what is left then, or after an interruption, is ended."""
    deadline = time.monotonic() + LONGEST
    codes: list[int | None] = []
    try:
        while any(process.poll() is None for process in processes):
            if any(process.returncode for process in processes) or time.monotonic() > deadline:
                break  # the others would wait for that process without end
            time.sleep(0.05)
        codes = [process.poll() for process in processes]
    finally:
        if not codes or None in codes:
            _end(processes, run)
    return next((code for code in codes if code), -1 if None in codes else 0)


def _end(processes: Sequence[subprocess.Popen[bytes]], run: RunDirectory | None) -> None:
    """Kills them, and what belongs to the run: what its supervisor begins in this moment does so a moment later."""
    for process in processes:
        process.kill()
        process.wait()
    while run and ((left := processes_of_run(str(run.path))) or status(run).going):
        for each in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        time.sleep(0.1)


def environment_of(gpus: Sequence[Gpu]) -> dict[str, str]:
    """What both sides get: these GPUs, one folder of compiled extensions, no allocator settings of the shell's."""
    own = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    own["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), own.get("PATH", os.defpath)])  # ninja
    own["PYTHONPATH"] = os.pathsep.join([str(ROOT), own.get("PYTHONPATH", "")]).strip(os.pathsep)
    own |= {"TORCH_EXTENSIONS_DIR": str(extensions_folder()), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    own["CUDA_VISIBLE_DEVICES"] = ",".join(str(gpu.index) for gpu in gpus)
    return own if gpus else own | {"DS_ACCELERATOR": "cpu"}


def rank_environments(gpus: Sequence[Gpu], ranks: int) -> list[dict[str, str]]:
    """Of processes that meet by themselves; cores are shared among them as a plan of the launcher's shares them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = str(max(1, read_host().cores // ranks)) if gpus else "1"
    together = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        environment_of(gpus)
        | together
        | {"OMP_NUM_THREADS": threads, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_SIZE": str(ranks)}
        for rank in range(ranks)
    ]
