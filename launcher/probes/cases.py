"""Configurations to try and what became of them; what hangs or crashes costs its own case alone."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SWAP = "$SWAP"
"""Stands in a configuration for a folder of the case's own, in memory."""
TOLD, BUILDS = "told", "builds"
"""What the lines that ``launcher.probes.engines`` writes begin with."""

MEMORY = Path("/dev/shm")
"""Where cases swap to: real drives may want alignment that DeepSpeed does not keep, and then corrupt gradients."""

ENGINES = (sys.executable, "-m", "launcher.probes.engines")
"""What runs them."""

SECONDS = 120.0
"""How long nothing may be heard before a case counts as hanging; the first waits for imports too."""
COMPILING = 900.0
"""The same while an extension is compiled."""


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration to run."""

    name: str
    config: dict[str, Any]
    model: str = "small"
    """``small``, or what is swapped to NVMe too: ``wide`` with one such weight, ``large`` with several."""
    resume: bool = False
    """Whether a checkpoint is tried too."""
    marked: bool = True
    """Whether weights are marked for Muon as the training here does; else as DeepSpeed alone does."""
    weighed: bool = False
    """Whether the bytes of all tensors are added up, which takes a tenth of a second."""
    world_size: int = 1
    """Processes that run it together."""
    builders: tuple[str, ...] = ()
    """Extensions it takes, by the names of their builders."""


def run_cases(cases: Iterable[Case], *, device: str = "cpu", seconds: float = SECONDS) -> dict[str, dict[str, Any]]:
    """What became of each case, by name; as ``launcher.probes.engines`` tells it.

    All run one after the other in one process, or one group of them. Where that ends or hangs in a case, this case's
    ``error`` says so, with the ``phase`` ``process``, and another runs the rest.

    Args:
        cases: configurations; of two with one name the last counts.
        device: ``cpu`` or ``cuda``.
        seconds: how long a case may take without an extension being compiled.
    """
    cases = {case.name: case for case in cases}.values()
    told: dict[str, dict[str, Any]] = {}
    for world_size in sorted({case.world_size for case in cases}):
        group = [case for case in cases if case.world_size == world_size]
        told |= _together(group, world_size, device, seconds)
    return {case.name: told[case.name] for case in cases}


def _together(cases: list[Case], world_size: int, device: str, seconds: float) -> dict[str, dict[str, Any]]:
    left = {case.name: case for case in cases}
    told: dict[str, dict[str, Any]] = {}
    while left:
        error = None
        for name, seen in _one_group(list(left.values()), world_size, device, seconds):
            if name is None:
                error = str(seen["error"])
            else:
                told[name] = seen
                del left[name]
        if left:
            name = next(iter(left))
            told[name] = {"name": name, "error": error or "the process ended", "phase": "process"}
            del left[name]
    return told


def _one_group(
    cases: list[Case], world_size: int, device: str, seconds: float
) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Names and what became of them until the processes end; None with the reason where they ended in a case."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder, ExitStack() as stack:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps([asdict(case) for case in cases]))
        errors = stack.enter_context((Path(folder) / "stderr").open("w+"))
        ranks = []
        for rank in range(world_size):
            process = subprocess.Popen(
                ENGINES,
                stdin=stack.enter_context(job.open()),
                stdout=subprocess.DEVNULL if rank else subprocess.PIPE,
                stderr=subprocess.DEVNULL if rank else errors,
                text=True,
                cwd=folder,
                env=_environment(rank, world_size, port, device),
                start_new_session=True,
            )
            ranks.append(stack.enter_context(process))
            stack.callback(_end, process)
        first = ranks[0]
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_listen, args=(first, lines), daemon=True).start()
        patience = seconds
        try:
            while (line := lines.get(timeout=patience)) is not None:
                if line.startswith(TOLD):
                    seen = json.loads(line.removeprefix(TOLD))
                    yield seen["name"], seen
                patience = COMPILING if line.startswith(BUILDS) else seconds
        except queue.Empty:
            yield None, {"error": f"nothing was heard for {patience:.0f} s"}
        else:
            if first.wait():
                errors.seek(0)
                last = (errors.read().strip().splitlines() or [""])[-1]
                yield None, {"error": f"the process ended with {first.returncode}: {last}"}


def _listen(process: subprocess.Popen[str], lines: "queue.Queue[str | None]") -> None:
    for line in process.stdout or ():
        lines.put(line)
    lines.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment(rank: int, world_size: int, port: int, device: str) -> dict[str, str]:
    accelerator = {} if device == "cuda" else {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        # ninja of this environment: another version would compile every extension anew.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "OMP_NUM_THREADS": "1",
        **accelerator,
        "TORCH_COMPILE_DISABLE": "1",  # Muon would be compiled for each engine
    }
