"""What a run's dashboard costs: bytes on the wire, share of a core, memory, and how fast a long run opens.

    python benchmarks/dashboard.py [STEPS] [SECONDS]

The run is a made one on eight GPUs: so many steps already, and a step and a reading a second while it is watched.
"""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/lib"))

from harness.made_runs import MadeRun
from harness.runs import CLI
from harness.terminal import Terminal
from launcher.runs.events import Skim

GPUS = 8
LIKE_SSH = {"TERM": "screen-256color", "COLORTERM": "", "PYTHONDONTWRITEBYTECODE": ""}
SIZES = ((80, 24, 6_000), (200, 50, 15_000))
"""Columns, rows, and bytes a second that may be sent."""
MOST_CORE, MOST_MIB, MOST_OPENING = 0.03, 150, 1.0


def long_run(folder: Path, steps: int) -> MadeRun:
    """A run that has trained so many steps; its last 3,000 seconds were read."""
    made = MadeRun(folder / "runs/long", gpus=GPUS, max_steps=2 * steps)
    made.begin()
    for _ in range(0, steps - 500, 50_000):
        made.train(min(50_000, steps - 500 - made.step), readings=False)
        made.write()
    made.train(500)
    made.write("a line of the log")
    return made


def live(made: MadeRun, ended: threading.Event) -> None:
    """A step a second, as real clocks go."""
    while not ended.wait(1.0):
        made.time = time.time()
        made.train(1, readings=False)
        made.look_once()
        made.write(f"step {made.step}")


def watched(made: MadeRun, columns: int, rows: int, seconds: float) -> dict[str, float]:
    """One dashboard, for so long."""
    begun = time.perf_counter()
    terminal = Terminal(CLI, "attach", str(made.run.path), columns=columns, rows=rows, **LIKE_SSH)
    try:
        terminal.read_until("train ")
        opened = time.perf_counter() - begun
        terminal.read_for(5.0)
        process = psutil.Process(terminal.process.pid)
        terminal.forget()
        before = process.cpu_times()
        terminal.read_for(seconds)
        after = process.cpu_times()
        return {
            "opened": opened,
            "bytes": len(terminal.seen.encode()) / seconds,
            "core": (after.user + after.system - before.user - before.system) / seconds,
            "mib": process.memory_info().rss / 2**20,
        }
    finally:
        terminal.close()


def main() -> int:
    """Returns 1 when any figure is above what it may be."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 30.0
    missed = []

    def told(what: str, figure: float, most: float, unit: str) -> None:
        print(f"{what:34} {figure:10,.3f} {unit} (most {most:,})")
        if figure > most:
            missed.append(what)

    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        made = long_run(Path(folder), steps)
        size = made.run.events_jsonl.stat().st_size
        begun = time.perf_counter()
        given = sum(1 for _ in Skim(made.run.events_jsonl))
        print(f"{steps:,} steps on {GPUS} GPUs: {size / 2**20:,.0f} MiB of events, {given:,} of them are given")
        told("reading them", time.perf_counter() - begun, MOST_OPENING, "s")
        bare = startup()
        ended = threading.Event()
        made.time = time.time()
        with made.held():
            writer = threading.Thread(target=live, args=(made, ended))
            writer.start()
            try:
                for columns, rows, most in SIZES:
                    cost = watched(made, columns, rows, seconds)
                    where = f"{columns}x{rows}"
                    told(f"{where} from command to the run", cost["opened"], MOST_OPENING + bare, "s")
                    told(f"{where} on the wire", cost["bytes"], most, "B/s")
                    told(f"{where} share of a core", cost["core"], MOST_CORE, "")
                    told(f"{where} resident", cost["mib"], MOST_MIB, "MiB")
            finally:
                ended.set()
                writer.join()
    print(f"of that, Python and Textual take   {bare:10.3f} s to be there")
    return int(bool(missed))


def startup() -> float:
    """Seconds that Python and Textual take by themselves."""
    begun = time.perf_counter()
    code = "import textual.app, textual.screen, textual.widgets; from textual.widgets import Input, Static"
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
