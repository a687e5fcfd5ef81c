"""Tensors by key in a few large files, each written once and never changed.

A shard is a safetensors file named by its keys; its tensors are called ``<key>.<name>``, and its metadata holds the
CRC-32 of each. Whoever is killed loses the shard not yet written. Two runs may fill one cache: neither ever sees half
of a shard.
"""

import errno
import hashlib
import os
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from launcher.errors import CannotRunHereError, InvalidInputError, RunFailedError
from launcher.model_files import read_header
from launcher.runs.directory import write_atomic
from launcher.train.known import KnownFiles

SHARD_BYTES = 64 * 2**20
"""A shard is written once it is that large: few enough files for tens of thousands of pictures."""
SHARD_SECONDS = 60.0
"""Or once its first tensors are that old: the most that a kill can cost."""
WHOLE = "whole"
"""What is known of a shard whose content was checked."""
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies in a shard."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    """Bytes from the start of the file."""
    length: int
    crc: int


Entry = tuple[str, dict[str, Place]]
"""A shard's name, and the places of one key's tensors in it by name."""


class Shards:
    """The shards of one folder; reading is thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Looks at nothing yet.

        Args:
            folder: made when the first shard is written.
        """
        self.folder = folder
        self.index: dict[str, Entry] = {}
        """Everything that is there by key, as far as it was looked at; given to other processes as it is."""

    def scan(self, known: KnownFiles, warn: Callable[[str], None]) -> None:
        """Makes the index anew from the shards that are there; one process does it.

        Shards that were not checked as they are now are read whole; a damaged one is removed, as everything in it can
        be computed again.

        Args:
            known: remembers which were checked.
            warn: told of each that is damaged.
        """
        index: dict[str, Entry] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                entries = _entries(path)
                if known.get(path) != WHOLE:
                    _check(path, entries)
                    known.put(path, WHOLE)
            except (InvalidInputError, OSError, ValueError, KeyError) as error:
                # What is wrong with a header names the file and asks for a copy, which nobody needs here.
                warn(f"{path} is damaged ({error.__cause__ or error}) and is computed again")
                path.unlink(missing_ok=True)
                continue
            index.update({key: (path.name, places) for key, places in entries.items()})
        self.index = index

    def read(self, key: str) -> dict[str, torch.Tensor]:
        """One key's tensors by name.

        Raises:
            RunFailedError: the shard is gone or damaged. The next scan will see it, too.
        """
        name, places = self.index[key]
        path = self.folder / name
        try:
            with path.open("rb") as file:
                return {name: _tensor(_bytes(file.fileno(), place, path), place) for name, place in places.items()}
        except (OSError, ValueError) as error:
            if path.exists():
                path.touch()  # or it would still be known to be whole
            raise RunFailedError(
                f"{path} was cached before training and cannot be read now ({error}); start the run again: what is "
                "missing is computed anew, and it continues from the newest checkpoint"
            ) from error


class ShardWriter:
    """Collects tensors and writes a shard now and then; leaving it writes what is left, whatever went wrong."""

    def __init__(self, shards: Shards, clock: Callable[[], float] = time.monotonic) -> None:
        self.shards, self._clock = shards, clock
        self._tensors: dict[str, torch.Tensor] = {}
        self._keys: list[str] = []
        self._bytes, self._since = 0, 0.0
        self.written: dict[str, Entry] = {}
        """What it wrote, for the other processes."""

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._write()

    def add(self, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes one key's tensors, on any device.

        Raises:
            CannotRunHereError: the disk is full or does not take them; earlier shards are kept.
        """
        if not self._keys:
            self._since = self._clock()
        self._keys.append(key)
        for name, tensor in tensors.items():
            kept = tensor.detach().cpu().contiguous()
            self._tensors[f"{key}.{name}"] = kept
            self._bytes += kept.nbytes
        if self._bytes >= SHARD_BYTES or self._clock() - self._since >= SHARD_SECONDS:
            self._write()

    def _write(self) -> None:
        if not self._keys:
            return
        name = hashlib.sha256("\n".join(self._keys).encode()).hexdigest()[:32]
        path = self.shards.folder / f"{name}.safetensors"
        checks = {name: str(_crc(tensor)) for name, tensor in self._tensors.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, save(self._tensors, metadata=checks))
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            why = "is full" if full else f"fails: {os.strerror(error.errno or 0)}"
            raise CannotRunHereError(
                f"the disk of the cache folder {path.parents[1]} {why}; make room or choose another with "
                "training.cache_dir. What is cached already is kept"
            ) from error
        finally:
            self._tensors, self._keys, self._bytes = {}, [], 0
        entries = {key: (path.name, places) for key, places in _entries(path).items()}
        self.written.update(entries)
        self.shards.index.update(entries)


def _entries(path: Path) -> dict[str, dict[str, Place]]:
    """The places of a shard's tensors by key and name, from its header.

    Raises:
        InvalidInputError: it is cut off or no safetensors file.
        KeyError: it is of another kind.
        ValueError: the same.
    """
    start, header = read_header(path)
    checks = header.pop("__metadata__", {})
    entries: dict[str, dict[str, Place]] = {}
    for full_name, described in header.items():
        key, name = full_name.rsplit(".", 1)
        begin, end = described["data_offsets"]
        place = Place(described["dtype"], tuple(described["shape"]), start + begin, end - begin, int(checks[full_name]))
        entries.setdefault(key, {})[name] = place
    return entries


def _check(path: Path, entries: Mapping[str, Mapping[str, Place]]) -> None:
    with path.open("rb") as file:
        for places in entries.values():
            for place in places.values():
                _bytes(file.fileno(), place, path)


def _bytes(descriptor: int, place: Place, path: Path) -> bytearray:
    """Read, not mapped into memory: where a disk fails later, a mapping ends the process without a word.

    Raises:
        ValueError: they are not what was written.
    """
    content = bytearray(place.length)
    got = os.preadv(descriptor, [content], place.start)
    if got != place.length or zlib.crc32(content) != place.crc:
        raise ValueError("its content is not what was written")
    return content


def _tensor(content: bytearray, place: Place) -> torch.Tensor:
    return torch.frombuffer(content, dtype=DTYPES[place.dtype]).reshape(place.shape)


def _crc(tensor: torch.Tensor) -> int:
    return zlib.crc32(tensor.flatten().view(torch.uint8).numpy().tobytes())
