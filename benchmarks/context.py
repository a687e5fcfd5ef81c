"""What a CUDA process holds of a GPU outside torch's memory, step by step, as a table and a line of JSON.

    python -m benchmarks.context

Each case is a process of its own (``benchmarks/cuda_steps.py``); nothing else may use the GPU meanwhile. "Device" is what
NVML's used memory grew by, which counts page tables too, "process" what nvidia-smi shows of the process, "outside" that
without what torch reserved, "step" what the step added to it. Half a minute.
"""

import json
import multiprocessing
import os
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from launcher.machine.gpus import read_nvml, visible
from launcher.machine.host import read_memory

PINNED_MIB = 12 * 1024
"""Of host memory that has to be free for the case that pins nine GiB."""


@dataclass(frozen=True)
class Case:
    """A function of ``cuda_steps`` and how it is called."""

    function: str
    arguments: tuple = ()
    environment: dict[str, str] = field(default_factory=dict)
    ranks: int = 1


def workspaces(size: str) -> Case:
    return Case("workspaces", environment={"CUBLAS_WORKSPACE_CONFIG": size})


CASES = {
    "libraries": Case("libraries"),
    **{f"stack of {size} bytes": Case("stack", (size,)) for size in (1024, 512, 256)},
    "cuBLAS's workspaces": Case("workspaces"),
    # torch reads ":KiB:number", and a plain 0 as nothing said; the first is its default before Hopper.
    **{f"CUBLAS_WORKSPACE_CONFIG={size}": workspaces(size) for size in (":4096:2:16:8", ":16:8", ":0:0")},
    "NCCL, one rank": Case("nccl"),
    "NCCL, two ranks": Case("nccl", ranks=2),
    "pinned memory": Case("pinned"),
}


def received(connection: Connection) -> list[dict]:
    """All that a process tells until it ends."""
    told = []
    try:
        while True:
            told.append(connection.recv())
    except EOFError:
        return told


def measured(case: Case, uuids: list[str], context) -> list[list[dict]]:
    """What each rank of a case tells."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    processes, connections = [], []
    for rank in range(case.ranks):
        ours, theirs = context.Pipe(duplex=False)
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(case.ranks)}
        given = (case.function, case.arguments, {**meeting, **own, **case.environment}, uuids[rank], theirs)
        processes.append(context.Process(target=run, args=given))
        processes[-1].start()
        theirs.close()
        connections.append(ours)
    told = [received(connection) for connection in connections]
    for rank, process in enumerate(processes):
        process.join()
        if process.exitcode:
            told[rank].append({"failed": f"it ended with {process.exitcode}"})
    return told


def run(*given) -> None:
    from benchmarks.cuda_steps import run as steps  # loads torch, which this process does without

    steps(*given)


def outside(row: dict) -> int:
    """MiB of the process beside torch's; of the device where the driver does not tell processes apart."""
    held = row["device_mib"] if row["process_mib"] is None else row["process_mib"]
    return held - row["reserved_mib"]


def cells(row: dict) -> list[str]:
    if "failed" in row:
        return [row["failed"], *[""] * 6]
    figures = [row[key] for key in ("device_mib", "process_mib", "reserved_mib", "outside_mib")]
    shown = ["?" if figure is None else f"{figure:,}" for figure in figures]
    return [row["step"], *shown, f"{row['step_mib']:+,}", f"{row['limits']['stack']:,}"]


def show(cases: dict[str, list[dict]]) -> None:
    columns = ["device, MiB", "process, MiB", "reserved by torch", "outside", "step", "stack, bytes"]
    for name, rows in cases.items():
        print(f"| {' | '.join([name, *columns])} |\n|{' --- |' * (1 + len(columns))}")
        for row in rows:
            print(f"| {' | '.join(cells(row))} |")
        print()


def main() -> None:
    gpus = visible(read_nvml(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not gpus.gpus:
        raise SystemExit(f"there is no GPU to measure: {gpus.reason}")
    uuids = [gpu.uuid for gpu in gpus.gpus]
    context = multiprocessing.get_context("forkserver")  # torch is imported once; CUDA begins anew in each process
    context.set_forkserver_preload(["benchmarks.cuda_steps"])
    began, card, cases = time.monotonic(), {}, {}
    for name, case in CASES.items():
        if case.ranks > len(uuids):
            continue
        if case.function == "pinned" and read_memory()[1] < PINNED_MIB:
            cases[name] = [{"failed": f"less than {PINNED_MIB} MiB of host memory are free"}]
            continue
        for rank, told in enumerate(measured(case, uuids, context)):
            rows, before = [], 0
            for row in told:
                if "card" in row:
                    card = row["card"]
                    continue
                if "failed" not in row:
                    row["outside_mib"] = outside(row)
                    row["step_mib"], before = row["outside_mib"] - before, row["outside_mib"]
                rows.append(row)
            cases[name if case.ranks == 1 else f"{name}, rank {rank}"] = rows
    show(cases)
    print(json.dumps({**card, "driver": gpus.driver, "seconds": round(time.monotonic() - began, 1), "cases": cases}))


if __name__ == "__main__":
    main()
