"""Starts the processes of one group on this machine, without ``accelerate launch``."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_ranks(module: str, job: dict[str, Any], folder: Path, world_size: int = 1, seconds: float = 300) -> None:
    """Runs ``python -m harness.rank MODULE JOB`` as every rank, on the CPU with gloo, one thread each.

    Args:
        module: reads the job's path from its command line and leaves results beside it.
        job: written to ``folder/job.json``.
        folder: also gets ``rank-N.log``.
        world_size: how many.
        seconds: for all of them.
    """
    (folder / "job.json").write_text(json.dumps(job))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(world_size):
        environment = {
            **os.environ,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "OMP_NUM_THREADS": "1",
            "DS_ACCELERATOR": "cpu",
            "CUDA_VISIBLE_DEVICES": "",
        }
        with (folder / f"rank-{rank}.log").open("wb") as log:
            command = [sys.executable, "-m", "harness.rank", module, str(folder / "job.json")]
            ranks.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
    codes = [rank.wait(seconds) for rank in ranks]
    failed = [(folder / f"rank-{rank}.log").read_text()[-4000:] for rank, code in enumerate(codes) if code]
    assert not failed, "\n".join(failed)
