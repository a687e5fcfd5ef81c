"""``python quick_compiler.py FOLDER COMPILER ARGUMENT...``: a compiler, quicker, for DeepSpeed's sources.

Debug symbols double the time, and no test reads them. Each source begins with all of torch's headers: they are given
what they use of those (``quick_headers``), read once for all of them and kept below FOLDER.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

OF_AN_EXTENSION = "-DTORCH_API_INCLUDE_EXTENSION_H"
ALIKE = ("-O3", "-march=native", "-fopenmp")
"""What is read once can be used where these are the same: those of CPU Adam, whose bits tests look at."""
OF_HEADERS = ("-std", "-f", "-U", OF_AN_EXTENSION, *ALIKE)
"""Beside folders, what headers are read with begins so."""
HEADERS = Path(__file__).with_name("quick_headers")
HEADER = "#include <torch/extension.h>\n"


def main() -> None:
    folder, compiler, *arguments = sys.argv[1:]
    arguments = [argument for argument in arguments if argument != "-g"]
    if OF_AN_EXTENSION in arguments and "-c" in arguments:
        arguments = [argument for argument in arguments if not argument.startswith("-O")]
        arguments = ["-isystem", str(HEADERS), *arguments, *ALIKE]
        arguments += ["-include", str(_precompiled(Path(folder), compiler, arguments))]
    os.execv(compiler, [compiler, *arguments])


def _precompiled(folder: Path, compiler: str, arguments: list[str]) -> Path:
    """The header; what the compiler made of it lies beside it, where it looks by itself."""
    flags = _flags(arguments)
    header = folder / hashlib.sha256("\0".join(flags).encode()).hexdigest()[:16] / "torch.h"
    header.parent.mkdir(exist_ok=True)
    with (header.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not header.exists():
            header.write_text(HEADER)
            subprocess.run([compiler, *flags, "-x", "c++-header", header, "-o", f"{header}.gch"], check=True)
    return header


def _flags(arguments: list[str]) -> list[str]:
    """What headers are read with, the same for every extension."""
    folders = [part for at, part in enumerate(arguments) if "-isystem" in (part, arguments[at - 1])]
    return sorted({argument for argument in arguments if argument.startswith(OF_HEADERS)}) + folders


if __name__ == "__main__":
    main()
