"""Configurations to try and what became of them; what hangs or crashes costs its own case alone."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SWAP = "$SWAP"
"""Stands in a configuration for a folder of the case's own, in memory."""
TOLD, BUILDS = "told", "builds"
"""What the lines that ``launcher.probes.engines`` writes begin with."""

ENGINES = (sys.executable, "-m", "launcher.probes.engines")

SECONDS = 120.0
"""How long nothing may be heard before a case counts as hanging; the first waits for imports too."""
COMPILING = 900.0
"""The same while an extension is compiled."""


@dataclass(frozen=True, slots=True)
class Case:
    """One configuration to run."""

    name: str
    config: dict[str, Any]
    model: str = "conv"
    """``conv``, ``linear``, or ``wide``, which is large enough to be swapped to NVMe."""
    resume: bool = False
    """Whether a checkpoint is tried too."""
    marked: bool = True
    """Whether weights are marked for Muon as the training here does; else as DeepSpeed alone does."""
    builders: tuple[str, ...] = field(default=())
    """Extensions it takes, by the names of their builders."""


def run_cases(cases: Iterable[Case], *, seconds: float = SECONDS) -> dict[str, dict[str, Any]]:
    """What became of each case, by name; as ``launcher.probes.engines`` tells it.

    All run one after the other in one process. Where that ends or hangs in a case, this case's ``error`` says so, with
    the ``phase`` ``process``, and another process runs the rest.

    Args:
        cases: configurations; of two with one name the last counts.
        seconds: how long a case may take without an extension being compiled.
    """
    left = {case.name: case for case in cases}
    told: dict[str, dict[str, Any]] = {}
    while left:
        error = None
        for name, seen in _one_process(list(left.values()), seconds):
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


def _one_process(cases: list[Case], seconds: float) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Names and what became of them until the process ends; None with the reason where it ended in a case."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "stderr").open("w+") as errors:
        process = subprocess.Popen(
            ENGINES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env=_environment(),
            start_new_session=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_converse, args=(process, cases, lines), daemon=True).start()
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
            if process.wait():
                errors.seek(0)
                last = (errors.read().strip().splitlines() or [""])[-1]
                yield None, {"error": f"the process ended with {process.returncode}: {last}"}
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _converse(process: subprocess.Popen[str], cases: list[Case], lines: "queue.Queue[str | None]") -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError), process.stdin:
        json.dump([asdict(case) for case in cases], process.stdin)
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


def _environment() -> dict[str, str]:
    return {
        **os.environ,
        # ninja of this environment: another version would compile every extension anew.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "TORCH_COMPILE_DISABLE": "1",  # Muon would be compiled for each engine
    }
