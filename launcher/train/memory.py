"""What this process holds of its GPU, by phase."""

import gc
from dataclasses import dataclass

import torch

from launcher.machine.process_memory import ProcessMemory

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Held:
    """MiB: of torch's tensors, of torch, and of the process as nvidia-smi shows it; the last 0 where nobody knows."""

    allocated: int = 0
    reserved: int = 0
    process: int = 0

    def or_more(self, other: "Held") -> "Held":
        """The larger of each figure."""
        return Held(
            max(self.allocated, other.allocated),
            max(self.reserved, other.reserved),
            max(self.process, other.process),
        )


class MemoryMeter:
    """Peaks of phases that may lie within each other; what an inner one takes is not counted to the outer one.

    torch notes its own peaks, so none is lost between two readings. What a process takes outside torch (CUDA's context,
    kernels, NCCL) only grows: its peak is torch's with that beside it.
    """

    def __init__(self, device: torch.device, process: ProcessMemory) -> None:
        """Begins to measure.

        Args:
            device: a GPU.
            process: made before anything was taken of it.
        """
        self._device, self._process = device, process
        self._uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        self._under_way: list[Held] = []
        self._highest = 0

    def begin(self) -> None:
        """A phase begins."""
        self._note()
        self._under_way.append(Held())

    def end(self) -> Held:
        """The innermost phase ends: its peak."""
        self._note()
        return self._under_way.pop()

    def now(self) -> Held:
        """What is held now."""
        reserved = torch.cuda.memory_reserved(self._device) // MIB
        process = self._process.read(self._uuid)
        return Held(torch.cuda.memory_allocated(self._device) // MIB, reserved, process or 0)

    @property
    def peak_reserved(self) -> int:
        """The most that torch held since the run began."""
        return max(self._highest, torch.cuda.max_memory_reserved(self._device) // MIB)

    def _note(self) -> None:
        now = self.now()
        allocated = torch.cuda.max_memory_allocated(self._device) // MIB
        reserved = torch.cuda.max_memory_reserved(self._device) // MIB
        peak = Held(allocated, reserved, now.process + reserved - now.reserved if now.process else 0)
        torch.cuda.reset_peak_memory_stats(self._device)
        self._highest = max(self._highest, reserved)
        if self._under_way:
            self._under_way[-1] = self._under_way[-1].or_more(peak)


def release(device: torch.device) -> None:
    """Gives back what nobody holds any more, pinned host memory too: what nvidia-smi and the host show is in use."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch._C._host_emptyCache()  # torch.accelerator.empty_host_cache, in torch 2.11 as well
