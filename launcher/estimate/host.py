"""Host memory of a run, by DeepSpeed's own allocation rules.

P parameters, N ranks, L the largest tensor, c bytes of a weight in training (2 in half precision, 4 in fp32). The rules
were measured by counting tensors after a step at N = 1 and read in the code for N > 1; what torch and the libraries
take beside them was measured on an H200.
"""

from dataclasses import dataclass

from launcher.config.settings import Settings
from launcher.estimate.adapter import trained
from launcher.estimate.engine_facts import moments
from launcher.estimate.model import ModelFacts
from launcher.estimate.parts import MIB, Part, in_mib
from launcher.estimate.vram import AVERAGE, average_bytes

PER_TENSOR_ROUNDING = 1.31
"""What pinning SDXL's 1,680 tensors one by one takes of their size: each is rounded up by itself."""
NVME_BUFFERS = {"offload_optimizer": 4, "offload_param": 5}
"""How many buffers DeepSpeed swaps through; its own ``buffer_count``."""
MAX_IN_CPU = 1_000_000_000
"""Parameters that stay in host memory beside NVMe; DeepSpeed's own ``max_in_cpu``."""
LOCKED = "buffers for NVMe, locked"
"""The share of host memory that no swapping and no limit may take away."""
LIBRARIES, PLAIN_LIBRARIES = 2650, 2250
"""MiB of Python, torch and the libraries of CUDA for each process that trains, with DeepSpeed and without; measured."""
BEFORE_THE_ENGINE = 1750
"""The same while the model is loaded; measured."""


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Resident memory of all processes on a machine, at the peak."""

    parts: tuple[Part, ...]
    pinned_mib: int
    """Of them, what CUDA keeps in place, in one process after the other; rounded up as torch's allocator does."""


def host_memory(settings: Settings, model: ModelFacts) -> HostMemory:
    """What a run takes of host memory.

    Args:
        settings: of the run.
        model: its sizes.
    """
    ds, ranks, of = settings.deepspeed, settings.launch.num_processes, trained(settings.training.adapter, model)
    c = 4 if ds.precision == "no" else 2
    parts, pinned = _of_deepspeed(settings, model)
    libraries = LIBRARIES if settings.launch.deepspeed else PLAIN_LIBRARIES
    parts = {"Python, torch and CUDA libraries": libraries * MIB * ranks, **parts}
    if settings.training.ema.ema_device == "cpu":
        parts[AVERAGE] = average_bytes(settings, model)
    # As the model is loaded it lies in host memory whole; masters that are made of it, and weights that are saved, pass
    # through host memory once more.
    loading = ranks * (BEFORE_THE_ENGINE * MIB + c * of.held)
    passing = [2 * of.parameters if settings.launch.deepspeed and c == 2 else 0, _written(settings) * of.parameters]
    parts["weights on their way"] = max(*passing, loading - sum(parts.values()))
    machines = settings.launch.machine_count
    return HostMemory(in_mib({name: size / machines for name, size in parts.items()}), round(pinned / machines / MIB))


def _of_deepspeed(settings: Settings, model: ModelFacts) -> tuple[dict[str, float], float]:
    """Bytes by part, of all ranks; and how many of them are pinned."""
    ds, ranks, of = settings.deepspeed, settings.launch.num_processes, trained(settings.training.adapter, model)
    c, parameters = 4 if ds.precision == "no" else 2, of.parameters
    parts: dict[str, float] = {}
    pin = ds.offload_optimizer_pin_memory
    buffers = "optimizer, pinned" if pin else "optimizer, buffers"
    share = parameters / ranks
    if ds.offloads and ds.stage in (1, 2):
        sizes = [4 * share, 4 * share, c * share, c * of.largest_tensor]  # master, gradient, two for staging
        parts[buffers] = ranks * sum(_rounded(size) if pin else size for size in sizes)
        if ds.stage == 2 and ds.gradient_accumulation_steps > 1:
            parts[buffers] += c * parameters * (PER_TENSOR_ROUNDING if pin else 1)
        parts["optimizer, pageable"] = 4 * moments(ds) * parameters
    elif "offload_optimizer" in ds.nvme_parts:
        group = _largest_group(settings, model)
        parts[LOCKED] = ranks * NVME_BUFFERS["offload_optimizer"] * 4 * group
        parts[buffers] = ranks * (_rounded(c * share) if pin else c * share)  # gradients
        parts["optimizer, pageable"] = ranks * 4 * group
    elif ds.offloads and ds.stage == 3:
        groups, rest = divmod(share, ds.sub_group_size)
        sizes = [*[4 * ds.sub_group_size] * int(groups), 4 * rest, c * share]  # gradients in fp32, as they come
        parts[buffers] = ranks * sum(_rounded(size) if pin else size for size in sizes)
        parts["optimizer, pageable"] = 4 * (1 + moments(ds)) * parameters
    pinned = parts.get(buffers, 0) if pin else 0
    if "offload_param" in ds.nvme_parts:
        share = of.held / ranks
        here = min(share, MAX_IN_CPU)
        parts[LOCKED] = parts.get(LOCKED, 0) + ranks * c * NVME_BUFFERS["offload_param"] * ds.offload_param_buffer_size
        if here < share:  # what does not stay is written from a buffer of its own
            parts[LOCKED] += ranks * c * ranks * _largest_group(settings, model)
        parts["parameters, pinned"] = ranks * _rounded(c * here)
    elif ds.offload_param_device != "none" and ds.stage == 3:
        # DeepSpeed pins this buffer whatever offload_param.pin_memory says.
        parts["parameters, pinned"] = ranks * _rounded(c * of.parameters / ranks)
        if ds.offload_param_pin_memory:
            # Each is pinned by itself; torch keeps those blocks though what is trained then lies elsewhere.
            parts["parameters, pinned"] += PER_TENSOR_ROUNDING * c * of.held
    return parts, pinned + parts.get("parameters, pinned", 0)


def _written(settings: Settings) -> int:
    """Bytes of each weight that is written by itself."""
    training = settings.training
    if training.checkpoints.checkpoint_contents == "full" and not training.export.export_pipeline:
        return 0
    return 4 if training.export.export_dtype == "fp32" else 2


def _largest_group(settings: Settings, model: ModelFacts) -> float:
    """Elements, at the most, that a GPU updates at once: a group is full with the parameter that passes its size."""
    ranks, of = settings.launch.num_processes, trained(settings.training.adapter, model)
    return min(of.parameters, ranks * settings.deepspeed.sub_group_size + of.largest_tensor) / ranks


def _rounded(size: float) -> float:
    """torch rounds a pinned block up to a power of two."""
    return 2 ** (int(size) - 1).bit_length() if size > 1 else size
