"""``python -m launcher RUN_DIR``: the supervisor of one run."""

import sys
from pathlib import Path

from launcher.errors import ExitCode, LauncherError
from launcher.runs.directory import RunDirectory
from launcher.runs.supervisor import Supervisor


def main() -> int:
    """Supervises the run directory named on the command line; returns the run's exit code."""
    if len(sys.argv) != 2:
        print("usage: python -m launcher RUN_DIR", file=sys.stderr)  # noqa: T201
        return ExitCode.USAGE
    try:
        return Supervisor(RunDirectory(Path(sys.argv[1]).resolve())).supervise()
    except LauncherError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
