"""What a run that failed has left to judge by."""

import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events
from launcher.runs.outcome import Outcome, read_outcome

LOG_BYTES = 64 * 2**10
"""Of the log's end, what is looked at."""
EVENT_BYTES = 64 * 2**10
ENDED_BY = (
    r"failed \(exitcode: -(\d+)\)",  # torch elastic, of the process that was first
    r"died with <Signals\.\w+: (\d+)>",  # accelerate, of its only process
    r"exits with return code = -(\d+)",  # DeepSpeed's launcher
    r"Signal (\d+) \(SIG\w+\) received by PID",
)
"""How launchers tell which signal ended the training."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of the latest launch of a run."""

    run: RunDirectory
    outcome: Outcome | None
    """The training's own words, where it left any."""
    exit_code: int | None
    """Of what the supervisor started, negative for a signal; None where nobody knows."""
    log: tuple[str, ...]
    """Last lines of its log."""
    out_of_memory: Mapping[str, Any] | None
    """The event of that name."""

    @property
    def signal(self) -> int | None:
        """Which signal ended the training, where one did and it left no word."""
        if self.outcome is not None:
            return None
        for pattern in ENDED_BY:
            for line in self.log:
                if found := re.search(pattern, line):
                    return int(found[1])
        code = self.exit_code
        if code is None or -signal.NSIG < code <= 128:
            return -code if code is not None and code < 0 else None
        return code - 128 if code - 128 < signal.NSIG else None

    @property
    def said(self) -> tuple[str, ...]:
        """Where a cause is looked for: the training's own words, or all of the log of one that left none."""
        return (self.outcome.message,) if self.outcome else self.log


def read_evidence(run: RunDirectory, state: Mapping[str, Any]) -> Evidence:
    """Reads what is there; nothing of it need be.

    Args:
        run: its directory.
        state: as state.json holds it.
    """
    trains = run.trains()
    return Evidence(
        run=run,
        outcome=read_outcome(trains) if trains == run or _is_of(trains, state) else None,
        exit_code=state.get("child_exit"),
        log=tuple(last_lines(run, state)),
        out_of_memory=_out_of_memory(trains),
    )


def last_lines(run: RunDirectory, state: Mapping[str, Any], count: int | None = None) -> list[str]:
    """The end of the latest launch's log, of a moving line only what it showed last.

    Args:
        run: its directory.
        state: as state.json holds it.
        count: how many lines at the most; all of the last 64 KiB without.
    """
    try:
        with run.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            begin = max(int(state.get("log_start") or 0), size - LOG_BYTES)
            log.seek(begin)
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return []
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    return lines if count is None else lines[-count:]


def _is_of(trains: RunDirectory, state: Mapping[str, Any]) -> bool:
    """Whether the run that a later machine takes part in has ended in this launch, and not before."""
    try:
        return trains.outcome_json.stat().st_mtime > float(state.get("started") or 0.0)
    except OSError:
        return False


def _out_of_memory(run: RunDirectory) -> dict[str, Any] | None:
    try:
        size = run.events_jsonl.stat().st_size
        events, _ = read_events(run.events_jsonl, max(0, size - EVENT_BYTES))
    except OSError:
        return None
    found = None
    for event in events:
        if event["event"] == "start":
            found = None
        elif event["event"] == "out_of_memory":
            found = event
    return found
