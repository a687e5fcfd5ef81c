"""A checkpoint now: a request in the run directory, honoured by the ranks at a step boundary. The run goes on."""

import json
import time

from launcher.errors import InvalidInputError
from launcher.runs.directory import RunDirectory, write_atomic
from launcher.runs.rehearsal import rehearsal_of
from launcher.runs.state import RunStatus, Status

AFTER_TRAINING = ("export", "samples")
"""Phases in which the last step has been saved already."""


def request_checkpoint(run: RunDirectory, current: RunStatus) -> None:
    """Asks a run for a checkpoint: it finishes the step, saves and trains on. Asked again meanwhile, it saves once.

    Args:
        run: also one of a later machine, whose training is that of the first.
        current: what it is now.

    Raises:
        InvalidInputError: it will save no checkpoint, with the reason.
    """
    if reason := why_not_asked(run, current):
        raise InvalidInputError(f"{run.name} {reason}")
    write_atomic(run.trains().checkpoint_json, json.dumps({"time": time.time()}).encode())


def why_not_asked(run: RunDirectory, current: RunStatus) -> str | None:
    """Why no checkpoint can be asked of a run, to follow its name; None where one can."""
    if rehearsal_of(run):
        return "is a rehearsal, which saves no checkpoint"
    if not current.going:
        return f"does not run: it is {current.status}"
    if current.orphans or current.status is Status.STOPPING:
        return "saves a checkpoint already: it is about to end"
    if current.state.get("phase") in AFTER_TRAINING:
        return "has trained its last step, and saved it"
    return None


def checkpoint_requested(run: RunDirectory) -> bool:
    """Whether a checkpoint was asked for that is not there yet."""
    return run.checkpoint_json.exists()


def withdraw_checkpoint_request(run: RunDirectory) -> None:
    """Takes the request away: it is answered, or will not be.

    After a save that answers also what was asked while it went on: no step was taken since.
    """
    run.checkpoint_json.unlink(missing_ok=True)
