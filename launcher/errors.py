"""What can go wrong, as types; each carries the exit code the command line documents."""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command, public from the first release."""

    OK = 0
    RUN_FAILED = 1
    USAGE = 2
    CANNOT_RUN_HERE = 3
    REFUSED_TO_OVERWRITE = 4
    HANGUP = 129
    CANCELLED = 130


class LauncherError(Exception):
    """A failure with a message for the user: names the thing and says what to do.

    Shown without a traceback; the log holds that.
    """

    exit_code = ExitCode.RUN_FAILED


class InvalidInputError(LauncherError):
    """Settings, answers or data that no machine could run."""

    exit_code = ExitCode.USAGE


class CannotRunHereError(LauncherError):
    """Valid settings that this machine, its disks or its packages cannot run."""

    exit_code = ExitCode.CANNOT_RUN_HERE


class RefusedToOverwriteError(LauncherError):
    """Something is already there and was not asked to be replaced."""

    exit_code = ExitCode.REFUSED_TO_OVERWRITE


class RunFailedError(LauncherError):
    """The run started and could not go on."""
