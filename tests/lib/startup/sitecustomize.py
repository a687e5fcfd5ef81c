"""Loaded first by every Python whose PYTHONPATH names this folder; see ``harness.startup``.

Interface, plan and supervisor stay what they are: only the training that they start is held up, or is a stand-in.
"""

import os
import sys
import time
from pathlib import Path


def wait_while(held) -> None:
    """Waits in the main thread, beside which the heartbeat goes on."""
    while held():
        time.sleep(0.02)


def hold(folder: Path) -> None:
    """Lets a training wait at the beginning of phases, and between steps, as long as files say so."""
    from launcher.runs.events import EventLog  # noqa: PLC0415 - the processes that are held know it

    tell = EventLog.emit

    def may_not_go_beyond(step: int) -> bool:
        try:
            return step >= int((folder / "train").read_text() or 0)
        except FileNotFoundError:
            return False

    def emit(self, event: str, **fields) -> None:
        tell(self, event, **fields)
        if event != "phase":
            return
        if fields["phase"] == "train":
            wait_while(lambda: may_not_go_beyond(fields.get("done", 0)))
        elif fields["state"] == "start":
            wait_while((folder / fields["phase"]).exists)

    EventLog.emit = emit


def shrink(mib: int) -> None:
    """Lets torch have so many MiB of the GPU, from the first phase of a training on."""
    from launcher.runs.events import EventLog  # noqa: PLC0415 - as above

    tell = EventLog.emit

    def emit(self, event: str, **fields) -> None:
        tell(self, event, **fields)
        if (event, fields.get("state")) == ("phase", "start") and (torch := sys.modules.get("torch")):
            torch.cuda.set_per_process_memory_fraction(mib * 2**20 / torch.cuda.mem_get_info()[1])

    EventLog.emit = emit


ACCELERATE, TRAINS = "accelerate.commands.launch", "launcher.train"
if TRAINS in sys.orig_argv:
    if mode := os.environ.get("STARTUP_STAND_IN"):
        os.execv(sys.executable, [sys.executable, "-m", "harness.stand_in", sys.orig_argv[-1], mode])
    if (name := os.environ.get("STARTUP_HOLDS")) and ACCELERATE not in sys.orig_argv:
        hold(Path(name))
    if (most := os.environ.get("STARTUP_CARD_MIB")) and ACCELERATE not in sys.orig_argv:
        shrink(int(most))
