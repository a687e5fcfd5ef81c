"""What was found out about files, for as long as they do not change: reading them again would take minutes."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from launcher.runs.directory import write_atomic

READERS = 8
"""Threads that read files; hashing leaves Python's lock alone."""


class KnownFiles:
    """A fact about each file, kept with the size and the time of change it was found at.

    One process at a time writes it; what another one adds meanwhile is found out anew some day.
    """

    def __init__(self, path: Path) -> None:
        """Reads what is known.

        Args:
            path: a JSON file; one that is not there or damaged knows nothing.
        """
        self._path = path
        self._facts: dict[str, list[object]] = {}
        self._changed = False
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError):
            return
        if isinstance(content, dict):
            self._facts = {name: fact for name, fact in content.items() if isinstance(fact, list) and len(fact) == 3}

    def get(self, path: Path) -> str | None:
        """The fact about a file as it is now; None where there is none."""
        fact = self._facts.get(str(path))
        return str(fact[2]) if fact is not None and fact[:2] == _state(path) else None

    def put(self, path: Path, fact: str) -> None:
        """Keeps a fact about a file as it is now; :meth:`save` writes it."""
        self._facts[str(path)] = [*_state(path), fact]
        self._changed = True

    def save(self) -> None:
        """Writes what was added, without files that are gone; a disk that takes no more is no reason to stop."""
        if not self._changed:
            return
        self._facts = {name: fact for name, fact in self._facts.items() if os.path.exists(name)}  # noqa: PTH110
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, json.dumps(self._facts).encode())
        except OSError:
            return
        self._changed = False

    def contents(
        self, paths: Iterable[Path], progress: Callable[[int, int], None] = lambda done, total: None
    ) -> dict[Path, str]:
        """The sha256 of each file's content; files that changed, or are new, are read.

        Args:
            paths: files.
            progress: told how many of those to be read are.

        Raises:
            OSError: a file cannot be read.
        """
        found = {path: self.get(path) for path in paths}
        unknown = [path for path, digest in found.items() if digest is None]
        for done, (path, digest) in enumerate(_hashed(unknown), start=1):
            self.put(path, digest)
            found[path] = digest
            progress(done, len(unknown))
        self.save()
        return {path: digest for path, digest in found.items() if digest is not None}

    def fingerprint(self, files: Iterable[Path]) -> str:
        """One digest of the contents of files, in order; what it is made of is read only where it changed.

        Raises:
            OSError: a file cannot be read.
        """
        paths = list(files)
        contents = self.contents(paths)
        return hashlib.sha256(b"".join(bytes.fromhex(contents[path]) for path in paths)).hexdigest()


def _hashed(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    with ThreadPoolExecutor(READERS, thread_name_prefix="contents") as pool:
        yield from zip(paths, pool.map(_content, paths), strict=True)


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path) -> list[object]:
    try:
        status = path.stat()
    except OSError:
        return [None, None]
    return [status.st_size, status.st_mtime_ns]
