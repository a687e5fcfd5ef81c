"""Adam and AdamW for parameters on the CPU, in one pass over host memory, which is what bounds them.

DeepSpeed 0.19.8 takes three, 44 bytes a parameter: it multiplies the gradients with the clipping factor, updates with
``DeepSpeedCPUAdam``, and copies the masters to bf16. ``adamw.cpp`` takes 30, or 28 with gradients in bf16, and leaves
the same masters and moments to the bit; in the last ``count % 16`` elements, which DeepSpeed computes one by one, the
last bit may differ.
"""

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from launcher.machine.toolchain import compiler_command, extensions_folder, first_error
from launcher.train.report import LOGGER

SOURCE = Path(__file__).with_name("adamw.cpp")
FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"),
    "-ffp-contract=off",  # the source says what is fused
    *("-fno-math-errno", "-fno-trapping-math"),  # else a square root or a choice keeps a loop from vectors
)


class FusedAdamW:
    """The compiled update."""

    def __init__(self, library: Path) -> None:
        """Loads it.

        Raises:
            OSError: it cannot be loaded here.
        """
        pointer, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
        self._update = ctypes.CDLL(str(library)).fused_adamw  # lets go of the GIL
        self._update.restype = None
        self._update.argtypes = (
            *(pointer, pointer, pointer, pointer, pointer, ctypes.c_int, number, real, number),
            *(real, real, real, real, real, ctypes.c_int, ctypes.c_int, ctypes.c_int),
        )

    def update(
        self,
        master: torch.Tensor,
        gradient: torch.Tensor,
        state: dict[str, Any],
        group: Mapping[str, Any],
        *,
        adam_w_mode: bool,
        scale: float = 1.0,
        weights_out: torch.Tensor | None = None,
        threads: int | None = None,
    ) -> None:
        """Updates one flat partition as a step of ``DeepSpeedCPUAdam`` does.

        All tensors are contiguous, in host memory, of equally many elements, and none overlaps another. They are
        checked before anything is changed.

        Args:
            master: fp32, updated.
            gradient: fp32 or bf16; read only, so it keeps its scale.
            state: the optimizer's of this partition: ``step``, ``exp_avg`` and ``exp_avg_sq`` (fp32), updated; while it
                is empty they are made as ``DeepSpeedCPUAdam`` makes them.
            group: the optimizer's group: ``lr``, ``betas``, ``eps``, ``weight_decay``, ``bias_correction``.
            adam_w_mode: the optimizer's: whether weight decay is decoupled; else it is added to the gradient.
            scale: what gradients are multiplied with: the clipping factor over the loss scale.
            weights_out: bf16; becomes the updated master, rounded to nearest even.
            threads: to compute with; torch's number by default.

        Raises:
            ValueError: a tensor is not what is said here.
        """
        count = master.numel()
        pointers = [
            _pointer("master", master, count, torch.float32),
            _pointer("gradient", gradient, count, torch.float32, torch.bfloat16),
            None if weights_out is None else _pointer("weights_out", weights_out, count, torch.bfloat16),
            *(_pointer(name, state[name], count, torch.float32) for name in ("exp_avg", "exp_avg_sq") if state),
        ]
        if not state:
            state["step"] = 0
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(master.data, dtype=torch.float32, device="cpu")
                pointers.append(state[name].data_ptr())
        state["step"] += 1
        self._update(
            *(*pointers, gradient.dtype == torch.bfloat16, count, scale, int(state["step"])),
            *(group["lr"], *group["betas"], group["eps"], group["weight_decay"], group["bias_correction"]),
            *(adam_w_mode, threads or torch.get_num_threads()),
        )


def load(folder: Path | None = None) -> FusedAdamW | str:
    """Loads the update, compiled in a second where this compiler has not yet done so for this CPU.

    Several processes may do so at once: each compiles for itself, and a file of the final name is always whole.

    Args:
        folder: where it is kept; beside DeepSpeed's extensions by default.

    Returns:
        It; or, in one line, why there is none. ``DeepSpeedCPUAdam`` does without.
    """
    folder = folder or extensions_folder() / "fused_adamw"
    try:
        library = folder / f"adamw-{_fingerprint()}.so"
        if not library.exists():
            _compile(library)
        return FusedAdamW(library)
    except subprocess.CalledProcessError as error:
        LOGGER.warning("%s does not compile:\n%s", SOURCE.name, error.stderr)
        return first_error(error.stderr) or f"{error.cmd[0]} ended with {error.returncode}"
    except OSError as error:  # no compiler, a full disk, a folder whose libraries may not be executed
        LOGGER.warning("%s does not compile or load", SOURCE.name, exc_info=True)
        return f"{error.filename}: {error.strerror}" if error.strerror else str(error)


def _fingerprint() -> str:
    """Of the source, the flags, and all that this compiler says of itself and of what this CPU can do: 10 ms."""
    about = _run(*compiler_command(), *FLAGS, "-dM", "-E", "-x", "c++", os.devnull)
    return hashlib.sha256(SOURCE.read_bytes() + about).hexdigest()[:16]


def _compile(library: Path) -> None:
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as own:
        built = Path(own, library.name)
        _run(*compiler_command(), *FLAGS, str(SOURCE), "-o", str(built))
        with built.open("rb+") as file:
            os.fsync(file.fileno())  # a library that a power failure cut short would end the process that loads it
        built.rename(library)


def _run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, command, stderr=done.stderr.decode(errors="replace"))
    return done.stdout


def _pointer(name: str, tensor: torch.Tensor, count: int, *dtypes: torch.dtype) -> int:
    """Where a tensor's elements are.

    Raises:
        ValueError: it does not have so many, contiguous, in host memory, of one of the dtypes.
    """
    fits = tensor.device.type == "cpu" and tensor.dtype in dtypes and tensor.is_contiguous()
    if not fits or tensor.numel() != count:
        wanted = " or ".join(str(dtype) for dtype in dtypes)
        raise ValueError(
            f"{name} must be {count} contiguous elements of {wanted} in host memory; it is {tuple(tensor.shape)} of "
            f"{tensor.dtype} on {tensor.device}, strides {tensor.stride()}"
        )
    return tensor.data_ptr()
