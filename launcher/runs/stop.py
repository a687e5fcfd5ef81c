"""Stopping a run: a request in its directory, honoured by the ranks at a step boundary."""

import json
import time
from dataclasses import asdict, dataclass

from launcher.runs.directory import RunDirectory, read_json, write_atomic


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
