"""Rehearsals without a training: what one told, and what it measured."""

import fcntl
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from launcher.plan import Plan
from launcher.rehearsal import rehearsal_plan
from launcher.runs.directory import RunDirectory, create
from launcher.runs.events import EventLog
from launcher.runs.rehearsed import Figures, Rehearsed, WholeRun
from launcher.runs.state import RunState, Status, write_state

REHEARSED = Rehearsed(
    status=Status.COMPLETED,
    message="rehearsed 2 steps",
    measured=Figures(gpu_reserved_mib=14_310, gpu_process_mib=15_712, host_mib=61_894, step_seconds=2.31),
    predicted=Figures(gpu_reserved_mib=14_448, gpu_process_mib=15_844, host_mib=61_270, step_seconds=None),
    losses=(0.1342, 0.1198),
    seconds={"data": 0.0, "forward": 0.41, "backward": 0.93, "optimizer": 0.97},
    skipped=0,
    whole_run=WholeRun(steps=1000, saves=2, step_seconds=2310.0, save_seconds=61.4),
)

PHASES = (("join", 3.1), ("scan", 0.1), ("compile", 41.8), ("contents", 2.4), ("captions", 3.9), ("latents", 18.2))


@contextmanager
def under_way(path: Path) -> Iterator[RunDirectory]:
    """A run directory whose events end in the second step, held as a supervisor holds it."""
    rehearsal = {"steps": 2, "checkpoint_mib": 34_300, "saves_here": True}
    run = create(path, {"plan.json": json.dumps({"rehearsal": rehearsal}).encode()})
    log = EventLog(run.events_jsonl)
    for phase, seconds in PHASES:
        log.emit("phase", phase=phase, state="start")
        log.emit("phase", phase=phase, state="end", seconds=seconds)
    log.emit("phase", phase="train", state="start")
    memory = [{"allocated": 9_000, "reserved": 14_310, "peak": 14_310}]
    log.emit("step", step=1, max_steps=2, loss=0.1342, lr=1e-7, seconds={"total": 3.4}, vram_mib=memory, rss_mib=61_894)
    log.emit("phase", phase="train", state="progress", done=1, total=2)
    write_state(run, RunState("train", supervisor={}, heartbeat=0, started=0))
    with run.lock.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield run


def stand_in_plans(mode: str) -> Callable[[Plan], Plan]:
    """Rehearsals as they are planned, but for the training: ``harness.stand_in`` in one of its modes."""

    def planned(plan: Plan) -> Plan:
        real = rehearsal_plan(plan)
        content = json.loads(real.files["plan.json"])
        content["argv"] = [sys.executable, "-m", "harness.stand_in", str(real.run_dir), mode]
        return replace(real, files={**real.files, "plan.json": json.dumps(content).encode()})

    return planned
