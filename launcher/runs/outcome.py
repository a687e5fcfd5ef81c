"""How the training processes ended, in their own words."""

import json
from dataclasses import asdict, dataclass
from typing import Literal, cast

from launcher.runs.directory import RunDirectory, read_json, write_atomic

Result = Literal["completed", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a run."""

    result: Result
    exit_code: int
    message: str
    unforeseen: bool = False
    """Whether the message is an exception's own, which nobody wrote for people."""


def write_outcome(run: RunDirectory, outcome: Outcome) -> None:
    """Leaves the outcome for the supervisor."""
    write_atomic(run.outcome_json, json.dumps(asdict(outcome)).encode())


def read_outcome(run: RunDirectory) -> Outcome | None:
    """What the training processes left, if they did."""
    content = read_json(run.outcome_json)
    if content is None or content.get("result") not in ("completed", "stopped", "failed"):
        return None
    return Outcome(
        cast(Result, content["result"]),
        int(content.get("exit_code", 1)),
        str(content.get("message", "")),
        bool(content.get("unforeseen")),
    )
