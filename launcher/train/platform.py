"""Which device trains: an NVIDIA GPU or the CPU, and nothing else."""

import platform
from typing import Any

import torch
from deepspeed.accelerator import get_accelerator

from launcher.errors import CannotRunHereError
from launcher.machine.cuda_only import on_another, on_rocm
from launcher.machine.host import read_host


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


def found_here() -> dict[str, Any]:
    """What this process trains on: the system, the host's memory in MiB and cores, torch's build and the GPUs."""
    host = read_host()
    return {
        "system": platform.platform(),
        "host_mib": host.total_mib,
        "cores": host.cores,
        "threads": torch.get_num_threads(),
        "device": get_accelerator().device_name(),
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
    }
