"""Which runs there are: an index of paths, so that a run is found by name from anywhere."""

import difflib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class PathIndex:
    """Paths in a small file, the latest last. One that cannot be written costs a name, never what it leads to."""

    file: Path

    def paths(self) -> list[str]:
        """As they were added; some may lead nowhere by now."""
        try:
            paths = json.loads(self.file.read_bytes())
        except (OSError, ValueError):
            return []
        return [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []

    def add(self, path: Path) -> None:
        """Puts a path last, wherever it was before."""
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._write([*self._but(path), str(path)])

    def remove(self, path: Path) -> None:
        """Takes a path out."""
        with suppress(OSError):
            self._write(self._but(path))

    def _but(self, path: Path) -> list[str]:
        return [known for known in self.paths() if known != str(path)]

    def _write(self, paths: list[str]) -> None:
        write_atomic(self.file, json.dumps(paths, indent=1).encode())


def register(run: RunDirectory) -> None:
    """Adds a run to the index."""
    PathIndex(index_path()).add(run.path)


def forget(run: RunDirectory) -> None:
    """Takes a run out of the index."""
    PathIndex(index_path()).remove(run.path)


def known_runs() -> list[RunDirectory]:
    """Runs that still exist, oldest first."""
    runs = (RunDirectory(Path(path)) for path in PathIndex(index_path()).paths())
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
