"""``python -m harness.stand_in RUN_DIR MODE``: behaves like a training process towards its supervisor."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from launcher.runs.checkpoint_request import checkpoint_requested, withdraw_checkpoint_request
from launcher.runs.directory import RunDirectory
from launcher.runs.events import EventLog
from launcher.runs.heartbeat import Heartbeat
from launcher.runs.notify import notify_if_orphaned
from launcher.runs.outcome import Outcome, write_outcome
from launcher.runs.stop import request_stop, stop_requested

SAVE_SECONDS = float(os.environ.get("STAND_IN_SAVE_SECONDS", "0"))
FIRST_STEP_SECONDS = float(os.environ.get("STAND_IN_FIRST_STEP_SECONDS", "0"))


def steps(run: RunDirectory, last: int, *, phases: bool = False, hangs_after: int | None = None) -> None:
    events = EventLog(run.events_jsonl)
    if phases:
        events.emit("phase", phase="train", state="start")
    with Heartbeat(run, on_orphaned=lambda: request_stop(run, "the supervisor of this run died")) as heartbeat:
        time.sleep(FIRST_STEP_SECONDS)
        for step in range(1, last + 1):
            time.sleep(0.1)
            heartbeat.progress("train", step)
            if step == hangs_after:
                time.sleep(600)
            told = {"loss": 1 / step, "lr": 1e-3, "grad_norm": 1.0, "skipped": False, "seconds": {"total": 0.1}}
            events.emit("step", step=step, max_steps=last, **told, vram_mib=[], rss_mib=512)
            if phases:
                events.emit("phase", phase="train", state="progress", done=step, total=last)
            if checkpoint_requested(run):
                time.sleep(SAVE_SECONDS)
                events.emit("checkpoint", path=f"{run.path}/checkpoint-{step}", step=step, bytes=0, removed=[])
                withdraw_checkpoint_request(run)
            if request := stop_requested(run):
                events.emit("stopping", reason=request.reason, step=step)
                time.sleep(SAVE_SECONDS)
                (run.path / "saved").touch()
                write_outcome(run, Outcome("stopped", 0, f"stopped at step {step}: {request.reason}"))
                return
    write_outcome(run, Outcome("completed", 0, f"trained {last} steps"))


def wait_for_a_build(run: RunDirectory) -> None:
    """As DeepSpeed does where torch compiles an extension that another process seems to compile."""
    baton = Path(os.environ["TORCH_EXTENSIONS_DIR"]) / "cpu_adam" / "lock"
    with Heartbeat(run, on_orphaned=lambda: None) as heartbeat:
        heartbeat.progress("compile")
        spec = importlib.util.find_spec("torch")  # without loading it
        code = Path(spec.submodule_search_locations[0], "utils/file_baton.py")
        torchs_own = importlib.util.spec_from_file_location("file_baton", code)
        module = importlib.util.module_from_spec(torchs_own)
        torchs_own.loader.exec_module(module)
        module.FileBaton(str(baton)).wait()
    write_outcome(run, Outcome("completed", 0, "compiled"))


def stubborn_child(run: RunDirectory) -> None:
    """As torch elastic does it: in a session of its own; and one that does not end when asked."""
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    (run.path / "child").write_text(str(child.pid))


def main() -> None:
    run, mode = RunDirectory(Path(sys.argv[1])), sys.argv[2]
    print(f"stand-in: {mode}", flush=True)
    if mode == "short":
        steps(run, 3)
    elif mode == "long":
        steps(run, 6000)
    elif mode == "long with bar":
        steps(run, 6000, phases=True)
    elif mode == "waits for a build":
        wait_for_a_build(run)
    elif mode == "hangs":
        steps(run, 6000, hangs_after=3)
    elif mode == "long with child":
        stubborn_child(run)
        steps(run, 6000)
    elif mode == "silent exit":
        sys.exit(7)
    elif mode == "killed with child":
        stubborn_child(run)
        os.kill(os.getpid(), signal.SIGKILL)
    elif mode == "failure":
        write_outcome(run, Outcome("failed", 2, "this picture is damaged"))
        sys.exit(2)
    elif mode == "environment":
        write_outcome(run, Outcome("completed", 0, os.environ["PATH"]))
    notify_if_orphaned(run, 0)


if __name__ == "__main__":
    main()
