"""Which device trains: an NVIDIA GPU or the CPU, and nothing else."""

import torch
from deepspeed.accelerator import get_accelerator

from launcher.errors import CannotRunHereError
from launcher.machine.cuda_only import on_another, on_rocm


def require_cuda_or_cpu() -> None:
    """Refuses GPUs that are not NVIDIA's, whichever way this process was started.

    Raises:
        CannotRunHereError: it would train on another, with the reason.
    """
    device = get_accelerator().device_name()
    if device == "cpu":
        return
    if torch.version.hip:  # AMD's GPUs are called cuda there
        raise CannotRunHereError(on_rocm(torch.version.hip))
    if device != "cuda":
        raise CannotRunHereError(on_another(device))
