"""Rehearsing a plan before a long run: two real steps, what they measured, and nothing left behind."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

from launcher.config.settings import Settings
from launcher.errors import ExitCode
from launcher.rehearsal import measured_settings, rehearsal_plan
from launcher.runs.directory import RunDirectory
from launcher.runs.rehearsal import remove, remove_older
from launcher.runs.rehearsed import Rehearsed, read_rehearsed
from launcher.runs.state import RunStatus, Status
from launcher.runs.stop import ASKED, asked_before, request_stop
from simpletuner_tui import follow
from simpletuner_tui.launching import Prepared, interrupts_held, start
from simpletuner_tui.messages import tell
from simpletuner_tui.progress import Progress


@dataclass(frozen=True, slots=True)
class Kept:
    """What a rehearsal measured, and of which settings."""

    rehearsed: Rehearsed
    settings: Settings
    """What its figures follow from."""

    @classmethod
    def of(cls, prepared: Prepared, rehearsed: Rehearsed) -> "Kept":
        """Of the run that was rehearsed."""
        return cls(rehearsed, measured_settings(prepared.plan.settings))

    def holds_for(self, prepared: Prepared | None) -> bool:
        """Whether a run would measure the same; one that cannot be planned would not."""
        return prepared is not None and measured_settings(prepared.plan.settings) == self.settings


def start_rehearsal(prepared: Prepared, *, force: bool = False) -> RunDirectory:
    """Starts the rehearsal of a run that could be started; earlier ones that are over are removed.

    Args:
        prepared: the run.
        force: although only an estimate says that it does not fit.

    Raises:
        LauncherError: this machine cannot run it, or it takes several.
    """
    remove_older(prepared.plan.run_dir.parent)
    return start(replace(prepared, plan=rehearsal_plan(prepared.plan)), force=force)


def conclude(run: RunDirectory, current: RunStatus) -> Rehearsed:
    """What a rehearsal that is over measured; of one that did not fail nothing is left."""
    rehearsed = read_rehearsed(run)
    if not current.failed:
        remove(run)
    return rehearsed


def stop_rehearsal(run: RunDirectory) -> str:
    """Asks it to stop after the step it is in, and asked again, at once; returns what to say of that."""
    now = asked_before(run)
    request_stop(run, ASKED, now=now)
    return "It is ended at once." if now else "It stops once this step is done; once more ends it at once."


def rehearse_and_tell(prepared: Prepared, *, force: bool = False, as_json: bool = False) -> ExitCode:
    """Rehearses a run, shows that to its end and says what it measured; Ctrl-C stops it before.

    Args:
        prepared: the run.
        force: although only an estimate says that it does not fit.
        as_json: what it measured as one object on stdout.

    Returns:
        As a run that is followed; ``CANCELLED`` after Ctrl-C.

    Raises:
        LauncherError: this machine cannot run it, or it takes several.
    """
    progress = Progress()
    with interrupts_held() as interrupts:
        run = start_rehearsal(prepared, force=force)
        tell(f"{run.name} in {run.path}; Ctrl-C stops it")
        with _interrupts_stop(run, interrupts):
            current = follow.watch(run, progress)
    if as_json:
        print(json.dumps({"run": str(run.path), **read_rehearsed(run).to_json()}, indent=2))  # noqa: T201
    else:
        follow.summarise(run, progress, current)
    conclude(run, current)
    stopped = bool(interrupts) and current.status is Status.STOPPED
    return ExitCode.CANCELLED if stopped else follow.exit_code(current)


@contextmanager
def _interrupts_stop(run: RunDirectory, interrupts: list[int]) -> Iterator[None]:
    """Ctrl-C, one from before among them, asks the rehearsal to stop and does not interrupt who follows it."""

    def stop(number: int, _: FrameType | None) -> None:
        interrupts.append(number)
        # Whatever writes to stderr may be interrupted here, and Python's own stream is not to be entered twice.
        os.write(2, f"\n{stop_rehearsal(run)}\n".encode())

    before = signal.signal(signal.SIGINT, stop)
    try:
        if interrupts:
            stop_rehearsal(run)
        yield
    finally:
        signal.signal(signal.SIGINT, before)
