"""One training process: joins the others, trains, and leaves an outcome that says how it went."""

import logging
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from launcher.errors import ExitCode, LauncherError
from launcher.imports import without_collecting
from launcher.machine.process_memory import ProcessMemory
from launcher.runs.diagnosis.rules import LOST_ANOTHER
from launcher.runs.directory import RunDirectory
from launcher.runs.events import EventLog
from launcher.runs.heartbeat import Heartbeat
from launcher.runs.notify import notify_if_orphaned
from launcher.runs.outcome import Outcome, read_outcome, write_outcome
from launcher.runs.stop import request_stop, stop_requested
from launcher.runs.swap import owned, swap_folders

with without_collecting():
    import torch
    from deepspeed.accelerator import get_accelerator

    from launcher.train.costs import Costs
    from launcher.train.distributed import World
    from launcher.train.extensions import build_communication
    from launcher.train.loop import train
    from launcher.train.memory import MemoryMeter
    from launcher.train.platform import require_cuda_or_cpu
    from launcher.train.report import LOGGER, Report
    from launcher.train.trackers import tracking


def main() -> int:
    """Trains the run directory named on the command line; returns the process's exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run = RunDirectory(Path(sys.argv[1]).resolve())
    is_main = int(os.environ.get("RANK", "0")) == 0
    with ExitStack() as stack:
        try:
            outcome = _train(run, stack)
            if is_main:
                write_outcome(run, outcome)
            code = outcome.exit_code
        except Exception as error:
            LOGGER.exception("the run ends")
            code = _fail(run, error)
    if is_main:
        notify_if_orphaned(run, code)
    return code


def _fail(run: RunDirectory, error: Exception) -> int:
    """Leaves the outcome of a failure; returns the exit code.

    The first process that fails says why, and does so before it leaves the group: the others only lose it.
    """
    if _lost_another(error):
        return int(ExitCode.RUN_FAILED)
    if isinstance(error, LauncherError):
        outcome = Outcome("failed", int(error.exit_code), str(error))
    else:
        words = f"{type(error).__name__}: {error}"
        outcome = Outcome("failed", int(ExitCode.RUN_FAILED), words, unforeseen=True)
    if read_outcome(run) is None:
        write_outcome(run, outcome)
    return outcome.exit_code


def _lost_another(error: BaseException | None) -> bool:
    """Whether this process failed only because another one of the run is gone."""
    while error is not None:
        if isinstance(error, RuntimeError) and any(sign in str(error) for sign in LOST_ANOTHER):
            return True
        error = error.__cause__
    return False


def _train(run: RunDirectory, stack: ExitStack) -> Outcome:
    report = Report()
    if int(os.environ.get("RANK", "0")) == 0:
        heartbeat = stack.enter_context(
            Heartbeat(run, on_orphaned=lambda: request_stop(run, "the supervisor of this run died"))
        )
        report = Report(EventLog(run.events_jsonl), heartbeat)
    require_cuda_or_cpu()
    on_gpu = get_accelerator().device_name() == "cuda"
    process = ProcessMemory() if on_gpu else None
    if not on_gpu:
        with report.phase("compile_communication"):
            build_communication()
    with report.phase("join"):
        world = World.join()
    stack.callback(world.close)
    if process:
        report.meter = MemoryMeter(world.device, process)
    costs = Costs(report)
    world.require_shared(run.path)
    if world.is_main:
        stack.enter_context(tracking(run, report))
    if int(os.environ["LOCAL_RANK"]) == 0 and run.uses_deepspeed():  # a drive is a machine's own
        cleaned = stack.enter_context(owned(swap_folders(run.deepspeed(), run.path).values()))
        for each in cleaned.removed:
            LOGGER.info("removed %s, left by a dead run: %d bytes", each.path, each.bytes)
            report.event("swap_removed", path=str(each.path), bytes=each.bytes)
        for message in cleaned.left:
            report.warning(message)

    def stop_reason() -> str | None:
        request = stop_requested(run)
        return None if request is None else request.reason

    try:
        outcome = train(run, world, report, stop_reason)
    except torch.OutOfMemoryError as error:
        raise costs.out_of_memory(run) from error
    costs.tell(run, world)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
