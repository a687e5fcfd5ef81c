"""Starts the processes of one group on this machine, without ``accelerate launch``."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ON_CPUS = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""}
"""Environment of ranks that see no GPU."""


def run_ranks(
    module: str,
    job: dict[str, Any],
    folder: Path,
    world_size: int = 1,
    seconds: float = 300,
    *,
    on_gpus: bool = False,
) -> None:
    """Runs ``python -m harness.rank MODULE JOB`` as every rank, one thread each.

    Args:
        module: reads the job's path from its command line and leaves results beside it.
        job: written to ``folder/job.json``.
        folder: also gets ``rank-N.log``.
        world_size: how many.
        seconds: for all of them.
        on_gpus: each on one of its own, with NCCL; else on the CPU, with gloo.
    """
    (folder / "job.json").write_text(json.dumps(job))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(world_size):
        environment = {
            **{key: value for key, value in os.environ.items() if key != "DS_ACCELERATOR"},
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "OMP_NUM_THREADS": "1",
            **({} if on_gpus else ON_CPUS),
        }
        with (folder / f"rank-{rank}.log").open("wb") as log:
            command = [sys.executable, "-m", "harness.rank", module, str(folder / "job.json")]
            ranks.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    try:
        _wait(ranks, seconds)
    finally:
        for rank in ranks:
            rank.kill()
    codes = [rank.wait() for rank in ranks]
    failed = [(folder / f"rank-{rank}.log").read_text()[-4000:] for rank, code in enumerate(codes) if code]
    assert not failed, "\n".join(failed)


def _wait(ranks: Sequence["subprocess.Popen[bytes]"], seconds: float) -> None:
    """Until all have ended, one has failed, for which others would wait hours, or time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        codes = [rank.poll() for rank in ranks]
        if any(codes) or None not in codes:
            return
        time.sleep(0.1)
