"""What compiling DeepSpeed's extensions takes."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_SAYS_WHY = re.compile(r"\berror: |: not found$|: command not found$")
"""A line of a compiler's, or of the shell that should have started it."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What was found, and the Debian and Ubuntu package of what was not."""

    compiler: str | None
    headers: bool
    """Python.h."""
    ninja: str | None

    @property
    def complete(self) -> bool:
        """Whether an extension can be compiled."""
        return bool(self.compiler and self.headers and self.ninja)

    @property
    def missing_packages(self) -> tuple[str, ...]:
        """What to install."""
        wanted = (("g++", self.compiler), ("python3-dev", self.headers), ("ninja-build", self.ninja))
        return tuple(package for package, found in wanted if not found)


def read_toolchain(path: str | None = None) -> Toolchain:
    """Looks for a C++ compiler, Python's headers and ninja as the training process will.

    Args:
        path: search path; the environment's by default. The interpreter's own folder is searched first, as
            the supervisor puts it there.
    """
    path = os.environ.get("PATH", os.defpath) if path is None else path
    search = os.pathsep.join([str(Path(sys.executable).parent), path])
    return Toolchain(
        compiler=shutil.which(compiler_command()[0], path=search),
        headers=os.access(Path(sysconfig.get_paths()["include"]) / "Python.h", os.R_OK),
        ninja=shutil.which("ninja", path=search),
    )


def extensions_folder() -> Path:
    """Where DeepSpeed's extensions are kept once compiled: absolute, for the training runs in another folder."""
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR") or f"{sys.prefix}/torch_extensions").absolute()


def missing_for_nvme(found: Toolchain) -> tuple[str, ...]:
    """The packages to install before DeepSpeed's async_io, which NVMe offload needs, can be compiled."""
    return found.missing_packages if _links_libaio(found.compiler) else (*found.missing_packages, "libaio-dev")


def _links_libaio(compiler: str | None) -> bool:
    if compiler is None:
        return Path("/usr/include/libaio.h").exists()
    # Only the compiler knows where it looks, and CPATH and LIBRARY_PATH tell it more.
    command = [compiler, "-x", "c++", "-", "-laio", "-o", os.devnull]
    program = b"#include <libaio.h>\nint main() { return io_submit(0, 0, 0); }\n"
    return subprocess.run(command, input=program, capture_output=True, check=False).returncode == 0


def compiler_command() -> list[str]:
    """What torch will call: ``$CXX``, which may carry arguments, or ``c++``."""
    written = os.environ.get("CXX", "c++")
    try:
        return shlex.split(written) or [written]
    except ValueError:
        return [written]


def first_error(told: str) -> str | None:
    """The line that says why a build failed; the last one where none does; None where there is none.

    Args:
        told: by a compiler, ninja or the shell.
    """
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    # ninja's last line says no more than that something failed.
    return next((line for line in lines if _SAYS_WHY.search(line)), lines[-1] if lines else None)
