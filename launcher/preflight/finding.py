"""A reason not to start, and what a launch with several of them ends with."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from launcher.config.setting import Level
from launcher.errors import CannotRunHereError, ExitCode, InvalidInputError, LauncherError, RefusedToOverwriteError

MIB = 2**20


class About(StrEnum):
    """What of the machine a finding is about, for ``doctor``, which says more about it."""

    GPU = "gpu"
    GPU_MEMORY = "gpu-memory"
    HOST_MEMORY = "host-memory"
    DISK = "disk"
    EXTENSION = "extension"
    NVME_DRIVE = "nvme-drive"
    ASYNC_IO = "async-io"
    MEMLOCK = "memlock"
    TRACKER = "tracker"
    PORT = "port"
    PDSH = "pdsh"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason not to start, or to think twice."""

    field: str
    """The question to change."""
    message: str
    level: Level = Level.ERROR
    exit_code: ExitCode = ExitCode.USAGE
    forceable: bool = False
    """An estimate says so; ``--force`` starts anyway."""
    about: About | None = None
    """None: it is about the answers alone."""


def raise_for(findings: list[Finding], *, force: bool = False) -> None:
    """Raises one error that lists every finding that stops the launch.

    Raises:
        InvalidInputError: when any of them is the settings' fault.
        CannotRunHereError: when the others are this machine's.
        RefusedToOverwriteError: when only the place is taken.
    """
    stopping = [f for f in findings if f.level is Level.ERROR and not (force and f.forceable)]
    if not stopping:
        return
    text = "\n".join(f"{finding.field}: {finding.message}" for finding in stopping)
    raise _KINDS[exit_code_of(stopping)](text)


_KINDS: dict[ExitCode, type[LauncherError]] = {
    ExitCode.USAGE: InvalidInputError,
    ExitCode.CANNOT_RUN_HERE: CannotRunHereError,
    ExitCode.REFUSED_TO_OVERWRITE: RefusedToOverwriteError,
}
"""By exit code, the gravest first: faulty settings would fail anywhere, a place that is taken only here and now."""


def exit_code_of(findings: Iterable[Finding]) -> ExitCode:
    """What a launch with these findings ends with."""
    codes = {finding.exit_code for finding in findings if finding.level is Level.ERROR}
    return next((code for code in _KINDS if code in codes), ExitCode.OK)


def size(mib: int) -> str:
    """Memory or disk space in a message."""
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{mib} MiB"
