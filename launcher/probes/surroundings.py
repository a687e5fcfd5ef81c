"""What probes share: the environment in which a run compiles, and a stdout for JSON alone."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.machine.toolchain import extensions_folder


def compile_as_a_run_does() -> None:
    """Before torch comes: ninja, which it asks, lies beside Python, and what was compiled for runs is used."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    os.environ["TORCH_EXTENSIONS_DIR"] = str(extensions_folder())


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """What DeepSpeed and compilers print stays out of the JSON."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(own, 1)
        os.close(own)
