"""That CPU Adam was built and stepped, kept for as long as what it follows from stays as it is.

A failure is not kept: whoever has mended something asks again.
"""

import contextlib
import hashlib
import json
import os
import platform
from pathlib import Path
from typing import Any

from launcher.machine.cache import cache_folder
from launcher.machine.packages import installed_version
from launcher.machine.toolchain import extensions_folder, read_toolchain
from launcher.runs.directory import write_atomic

PACKAGES = ("simpletuner-tui", "torch", "deepspeed")
"""Whose versions it follows from."""


def remembered(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any] | None:
    """What the probe told, where it would tell the same again; None where it has to be asked.

    Args:
        cpuinfo: what CPU this is; tests give their own.
    """
    try:
        kept = json.loads(_file(cpuinfo).read_text())
        return dict(kept["told"]) if kept["extension"] == _extension() else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def remember(told: dict[str, Any], cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Keeps what the probe told of an extension that works; where it cannot be kept, it is asked again."""
    with contextlib.suppress(OSError):
        file = _file(cpuinfo)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, json.dumps({"told": told, "extension": _extension()}).encode())


def _file(cpuinfo: Path) -> Path:
    follows_from = [
        [installed_version(name) for name in PACKAGES],
        [platform.python_version(), platform.machine(), _cpu(cpuinfo)],
        [str(extensions_folder()), read_toolchain().compiler, os.environ.get("CXX", "")],
    ]
    digest = hashlib.sha256(json.dumps(follows_from).encode()).hexdigest()[:16]
    return cache_folder("probes") / f"cpu_adam-{digest}.json"


def _cpu(cpuinfo: Path) -> list[str]:
    """Its model and instructions, for which the extension is compiled (``-march=native``)."""
    told = dict(line.split(":", 1) for line in cpuinfo.read_text().split("\n\n", 1)[0].splitlines() if ":" in line)
    by_name = {name.strip(): value.strip() for name, value in told.items()}
    return [by_name.get(name, "") for name in ("model name", "flags", "Features")]


def _extension() -> list[int]:
    """Size and time of change of what was compiled.

    Raises:
        OSError: it is gone.
    """
    status = (extensions_folder() / "cpu_adam/cpu_adam.so").stat()
    return [status.st_size, status.st_mtime_ns]
