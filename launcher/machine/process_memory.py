"""GPU memory of this process as nvidia-smi shows it, by NVML."""

import os
from contextlib import suppress

from launcher.machine.gpus import MIB, read_nvml


class ProcessMemory:
    """What this process holds of a GPU: CUDA's context, kernels and libraries with torch's memory.

    In a container or under WSL the driver may not tell processes apart. Then what the GPU's use grew by since this was
    made stands in; so it has to be made before the process takes any memory there.
    """

    def __init__(self) -> None:
        """Notes what is used of every GPU."""
        self._before = {gpu.uuid: gpu.used_mib for gpu in read_nvml().gpus}
        if self._before:
            import pynvml  # noqa: PLC0415 - loads the driver's library

            pynvml.nvmlInit()  # once: a reading a step must not open the driver anew

    def read(self, uuid: str) -> int | None:
        """MiB now of the GPU with this UUID; None where NVML cannot tell, as of a part of a GPU (MIG)."""
        if uuid not in self._before:
            return None
        import pynvml  # noqa: PLC0415

        with suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle):
                if process.pid == os.getpid() and process.usedGpuMemory:
                    return int(process.usedGpuMemory // MIB)
        used = {gpu.uuid: gpu.used_mib for gpu in read_nvml().gpus}
        return used[uuid] - self._before[uuid] if uuid in used else None
