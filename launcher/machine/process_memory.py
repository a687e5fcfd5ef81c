"""GPU memory of this process as nvidia-smi shows it, by NVML."""

import os
from contextlib import suppress

from launcher.machine.gpus import read_nvml
from launcher.machine.nvml import MIB, Nvml, NvmlError, RefusedError


class ProcessMemory:
    """What this process holds of a GPU: CUDA's context, kernels and libraries with torch's memory.

    In a container or under WSL the driver may not tell processes apart. Then what the GPU's use grew by since this was
    made stands in; so it has to be made before the process takes any memory there.
    """

    def __init__(self) -> None:
        """Notes what is used of every GPU."""
        self._before = {gpu.uuid: gpu.used_mib for gpu in read_nvml().gpus}
        self._nvml = Nvml() if self._before else None  # once: a reading a step must not open the driver anew

    def read(self, uuid: str) -> int | None:
        """MiB now of the GPU with this UUID; None where NVML cannot tell, as of a part of a GPU (MIG)."""
        if self._nvml is None or uuid not in self._before:
            return None
        own: int | None = None
        try:
            gpu = self._nvml.handle(uuid)
            used = self._nvml.memory(gpu).used_mib
            with suppress(RefusedError):
                own = self._nvml.held(gpu).get(os.getpid())
        except NvmlError:
            return None
        return own // MIB if own else used - self._before[uuid]
