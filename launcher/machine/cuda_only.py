"""Why GPUs that are not NVIDIA's are not trained on. Torch-free: the training process asks torch itself."""

from collections.abc import Mapping
from pathlib import Path

from launcher.machine.availability import Availability, has_gpu_of, torch_built_for

AMD = "0x1002"
"""AMD's PCI vendor id, as the kernel writes it."""

_WHY = (
    "DeepSpeed on GPUs is for CUDA here, as its offload, its memory and its compiled optimizers are known for NVIDIA's "
    "GPUs alone; train on one, or on the CPU (accelerate.use_cpu)"
)


def on_rocm(version: str) -> str:
    """What is said where torch was built for AMD's ROCm."""
    return f"torch is built for AMD's ROCm ({version}): {_WHY}"


def on_another(device: str) -> str:
    """What is said where torch would train on another accelerator, such as Apple's ``mps``."""
    name = "Apple's GPU (MPS)" if device == "mps" else f"an accelerator of another kind ({device})"
    return f"torch would train on {name}: {_WHY}"


def why_not_cuda(root: Path = Path("/"), availability: Mapping[str, bool] | None = None) -> str | None:
    """Why a training that may use a GPU would get one that is not NVIDIA's; None where it would not.

    Args:
        root: where ``dev`` and ``sys`` are; tests give their own.
        availability: what accelerate finds here; looked for by default.
    """
    version = torch_built_for("hip")
    if version and (root / "dev/kfd").exists():  # without AMD's driver that torch trains on the CPU
        return on_rocm(version)
    found = availability or Availability(root)
    return on_another("mps") if found["mps"] else None


def amd_is_idle(root: Path = Path("/")) -> bool:
    """Whether there is a GPU of AMD's: where torch is not built for it, training does not see it."""
    return has_gpu_of(AMD, root)
