"""``COMPLETE``: written last, it says of every file of a checkpoint its size and a checksum of its content. Torch-free.

Sizes are looked at whenever checkpoints are listed; contents are read once more, before a checkpoint is loaded.
"""

import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from launcher.runs.directory import write_atomic

MARKER = "COMPLETE"
BLOCK = 64 * 2**20
"""Bytes that one thread reads at a time."""
THREADS = 8


def mark(folder: Path) -> int:
    """Writes the marker of a folder whose files are all there; returns their bytes."""
    files = files_of(folder)
    sums = checksums(files)
    sizes = {file: file.stat().st_size for file in files}
    content = {str(file.relative_to(folder)): {"bytes": sizes[file], "crc32": sums[file]} for file in files}
    write_atomic(folder / MARKER, json.dumps(content, indent=2).encode())
    return sum(sizes.values())


def files_of(folder: Path) -> list[Path]:
    """Everything in a checkpoint but its marker."""
    return [file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != MARKER]


def bytes_of(folder: Path) -> int:
    """What a whole checkpoint takes on disk, by its marker."""
    return sum(entry["bytes"] for entry in _entries(folder).values())


def why_not_whole(folder: Path) -> str | None:
    """Why a folder is not a whole checkpoint, by names and sizes; None when it is."""
    try:
        entries = _entries(folder)
    except FileNotFoundError:
        return f"no {MARKER} marker: its save did not finish"
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"{MARKER} is unreadable: {error}"
    for name, entry in entries.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != entry["bytes"]:
            return f"{name} has {file.stat().st_size} bytes instead of {entry['bytes']}"
    return None


def why_damaged(folder: Path) -> str | None:
    """Which file of a whole checkpoint holds something else than what was written; None when none does.

    Reads all of it. A marker of an earlier version has no checksums.
    """
    entries = {folder / name: entry.get("crc32") for name, entry in _entries(folder).items()}
    known = {file: crc for file, crc in entries.items() if crc is not None}
    try:
        found = checksums(list(known))
    except OSError as error:
        return f"{error.filename or 'a file'} cannot be read: {error.strerror}"
    for file, crc in known.items():
        if found[file] != crc:
            return f"the content of {file.relative_to(folder)} is not what was written"
    return None


def checksums(files: list[Path]) -> dict[Path, str]:
    """The CRC-32 of each file's blocks' CRC-32s, so that several threads share a large file.

    Raises:
        OSError: a file cannot be read.
    """
    blocks = [(file, start) for file in files for start in range(0, max(1, file.stat().st_size), BLOCK)]
    with ThreadPoolExecutor(max_workers=min(THREADS, os.cpu_count() or 1)) as threads:
        crcs = threads.map(_of_block, *zip(*blocks, strict=True)) if blocks else ()
        sums = dict.fromkeys(files, 0)
        for (file, _), crc in zip(blocks, crcs, strict=True):
            sums[file] = zlib.crc32(crc.to_bytes(4, "little"), sums[file])
    return {file: f"{crc:08x}" for file, crc in sums.items()}


def _of_block(file: Path, start: int) -> int:
    with file.open("rb") as stream:
        stream.seek(start)
        return zlib.crc32(stream.read(BLOCK))  # lets other threads run


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    content = dict(json.loads((folder / MARKER).read_bytes()))
    # An earlier version wrote sizes alone.
    return {name: entry if isinstance(entry, dict) else {"bytes": int(entry)} for name, entry in content.items()}
