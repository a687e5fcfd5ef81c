"""Stopping a run: a request in its directory, honoured by the ranks at a step boundary."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import psutil

from launcher.runs.directory import RunDirectory, read_json, write_atomic
from launcher.runs.processes import end_processes

ASKED = "asked to stop"
"""The reason of a stop that a person asked for; others come from a signal or a supervisor's death."""


@dataclass(frozen=True, slots=True)
class StopRequest:
    """Somebody wants the run to end."""

    now: bool
    """Without a checkpoint: the supervisor ends the processes."""
    reason: str
    time: float
    """Seconds since the epoch."""


def request_stop(run: RunDirectory, reason: str, *, now: bool = False) -> None:
    """Asks a run to stop. Not ``now``: it finishes the step, saves and leaves, however long that takes."""
    request = StopRequest(now, reason, time.time())
    write_atomic(run.stop_json, json.dumps(asdict(request)).encode())


def end_now(run: RunDirectory, orphans: Sequence[int]) -> None:
    """Ends a run at once, without a checkpoint; where processes do not end when asked, it takes seconds.

    Args:
        run: one that goes on.
        orphans: its processes where their supervisor is dead: nobody but a person ends those.
    """
    request_stop(run, ASKED, now=True)
    end_processes([psutil.Process(pid) for pid in orphans if psutil.pid_exists(pid)])


def stop_requested(run: RunDirectory) -> StopRequest | None:
    """The request, if there is one."""
    if not run.stop_json.exists():
        return None
    content = read_json(run.stop_json) or {}
    # A request that cannot be read is still a request.
    return StopRequest(
        now=bool(content.get("now")),
        reason=str(content.get("reason", "asked to stop")),
        time=float(content.get("time") or 0.0),
    )


def asked_before(run: RunDirectory) -> bool:
    """Whether a person has asked already: who asks again wants the end at once."""
    request = stop_requested(run)
    return request is not None and request.reason == ASKED
