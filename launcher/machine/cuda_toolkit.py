"""CUDA's toolkit, without which DeepSpeed compiles nothing for GPUs, and what else is in the way of that."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.machine.arch_list import VARIABLE, not_parsed
from launcher.machine.availability import torch_built_for

USUAL = Path("/usr/local/cuda")
"""Where torch looks last."""


@dataclass(frozen=True, slots=True)
class CudaToolkit:
    """The toolkit that torch and DeepSpeed would take."""

    folder: Path
    release: str
    """Such as ``13.0``, as its nvcc says; empty where no nvcc answers."""


def find_cuda_toolkit(environment: Mapping[str, str] | None = None, usual: Path = USUAL) -> CudaToolkit | None:
    """The toolkit, looked for as torch does (``_find_cuda_home``); None: torch would find none.

    Args:
        environment: of the process that compiles; this one's by default.
        usual: where it is looked for last; tests give their own.
    """
    environment = os.environ if environment is None else environment
    named = environment.get("CUDA_HOME") or environment.get("CUDA_PATH")
    if named:
        folder = Path(named)
    elif compiler := shutil.which("nvcc", path=environment.get("PATH")):
        folder = Path(compiler).parent.parent
    elif usual.exists():
        folder = usual
    else:
        return None
    return CudaToolkit(folder, _release(folder / "bin/nvcc"))


def _release(compiler: Path) -> str:
    try:
        said = subprocess.run([compiler, "-V"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""
    found = re.search(r"release (\d+\.\d+)", said)
    return found[1] if found else ""


def why_not_compiled_for_gpus(
    toolkit: CudaToolkit | None, arch_list: str | None = None, torch_cuda: str | None = None
) -> str | None:
    """Why DeepSpeed's extensions for GPUs, and async_io among them, end before a compiler is asked; None: they do not.

    Where torch has no CUDA they are compiled for the CPU, which takes neither.

    Args:
        toolkit: as :func:`find_cuda_toolkit` found it.
        arch_list: ``TORCH_CUDA_ARCH_LIST``; the environment's by default.
        torch_cuda: the version torch is built for; looked for by default.
    """
    if not (torch_built_for("cuda") if torch_cuda is None else torch_cuda):
        return None
    if toolkit is None or not toolkit.release:
        where = f"{toolkit.folder} has none" if toolkit else "neither CUDA_HOME, PATH nor /usr/local/cuda has one"
        return f"CUDA's compiler (nvcc) is not found: {where}"
    entry = not_parsed(os.environ.get(VARIABLE, "") if arch_list is None else arch_list)
    return f"DeepSpeed cannot read `{entry}` in {VARIABLE}" if entry else None
