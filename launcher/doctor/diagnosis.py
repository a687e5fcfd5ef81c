"""One thing that was looked at, and what a doctor says of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from launcher.errors import ExitCode


class Status(StrEnum):
    """How it is, from well to ill; what stops the launch is an error."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Group(StrEnum):
    """What belongs together, in the order in which it is told."""

    PLATFORM = "Platform"
    GPU = "GPU"
    EXTENSIONS = "Compiled extensions"
    HOST = "Host memory"
    SPEED = "Measured speed"
    LAUNCH = "Launching"
    PLAN = "This plan"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding."""

    id: str
    """For scripts; it stays as it is from version to version."""
    group: Group
    title: str
    status: Status
    what: str
    why: str = ""
    """Why it matters; empty where all is well."""
    mend: tuple[str, ...] = ()
    """Commands, the likeliest first; each mends it by itself. Empty: no command does."""


def exit_code_of(diagnoses: Iterable[Diagnosis]) -> ExitCode:
    """What ``doctor`` ends with."""
    ill = any(each.status is Status.ERROR for each in diagnoses)
    return ExitCode.CANNOT_RUN_HERE if ill else ExitCode.OK
