"""Which runs there are: an index of paths, so that a run is found by name from anywhere."""

import difflib
import json
import os
from contextlib import suppress
from pathlib import Path

from launcher.errors import InvalidInputError
from launcher.runs.directory import RunDirectory, write_atomic


def state_folder() -> Path:
    """Where this tool keeps what outlives a run, by the XDG base directory specification."""
    state_home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state_home) / "simpletuner-tui"


def index_path() -> Path:
    """Where the index lies."""
    return state_folder() / "runs.json"


def register(run: RunDirectory) -> None:
    """Adds a run to the index. An index that cannot be written costs the name, never the run."""
    path = index_path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        paths = [*(known for known in _read(path) if known != str(run.path)), str(run.path)]
        write_atomic(path, json.dumps(paths, indent=1).encode())
    except OSError:
        return


def forget(run: RunDirectory) -> None:
    """Takes a run out of the index; one that cannot be written keeps a path that leads nowhere."""
    path = index_path()
    with suppress(OSError):
        write_atomic(path, json.dumps([known for known in _read(path) if known != str(run.path)], indent=1).encode())


def known_runs() -> list[RunDirectory]:
    """Runs that still exist, oldest first."""
    runs = (RunDirectory(Path(path)) for path in _read(index_path()))
    return [run for run in runs if run.plan_json.exists()]


def find(name: str) -> RunDirectory:
    """The run of a name or a path.

    Raises:
        InvalidInputError: there is none, or several have that name.
    """
    path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's own raises for ~nobody
    if os.path.exists(path / "plan.json"):  # noqa: PTH110 - Path's own raises where a name is too long
        return RunDirectory(path.resolve())
    runs = known_runs()
    named = [run for run in runs if run.name == name]
    if len(named) == 1:
        return named[0]
    if named:
        paths = "\n  ".join(str(run.path) for run in named)
        raise InvalidInputError(f"several runs are named {name}; give the path:\n  {paths}")
    near = difflib.get_close_matches(name, [run.name for run in runs], n=3)
    hint = f"; did you mean {', '.join(near)}?" if near else "; `simpletuner-tui runs` lists them"
    raise InvalidInputError(f"there is no run {name!r}{hint}")


def _read(path: Path) -> list[str]:
    try:
        paths = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return []
    return [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
