"""``python quick_compiler.py FOLDER COMPILER ARGUMENT...``: a compiler, in less time, for what no test looks at.

Debug symbols take half the time, and no test reads them. DeepSpeed's sources for NVMe each begin with all of torch's
headers: those are read once, and kept below FOLDER.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

MANY_SOURCES = "-DTORCH_EXTENSION_NAME=async_io"
NOT_OF_HEADERS = {"-c": 2, "-o": 2, "-MF": 2, "-MMD": 1, "-MD": 1, MANY_SOURCES: 1}
"""Arguments that differ from one source to the next, and how many each takes with it."""
HEADER = "#include <torch/extension.h>\n"


def main() -> None:
    folder, compiler, *arguments = sys.argv[1:]
    arguments = [argument for argument in arguments if argument != "-g"]
    if MANY_SOURCES in arguments and "-c" in arguments:
        arguments += ["-include", str(_precompiled(Path(folder), compiler, arguments))]
    os.execv(compiler, [compiler, *arguments])


def _precompiled(folder: Path, compiler: str, arguments: list[str]) -> Path:
    """The header; what the compiler made of it lies beside it, where it looks by itself."""
    flags, rest = [], iter(arguments)
    for argument in rest:
        for _ in range(NOT_OF_HEADERS.get(argument, 0) - 1):
            next(rest)
        if argument not in NOT_OF_HEADERS:
            flags.append(argument)
    header = folder / hashlib.sha256("\0".join(flags).encode()).hexdigest()[:16] / "torch.h"
    header.parent.mkdir(exist_ok=True)
    with (header.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not header.exists():
            header.write_text(HEADER)
            subprocess.run([compiler, *flags, "-x", "c++-header", header, "-o", f"{header}.gch"], check=True)
    return header


if __name__ == "__main__":
    main()
