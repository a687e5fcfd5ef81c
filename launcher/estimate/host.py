"""Host memory of a run, by the allocation rules of DeepSpeed and of ``launcher.train.offload``.

P parameters, N ranks, L the largest tensor, c bytes of a weight in training (2 in half precision, 4 in fp32). The
rules of DeepSpeed's own were measured by counting tensors after a step at N = 1 and read in the code for N > 1; what
torch and the libraries take beside them was measured on an H200.
"""

from dataclasses import dataclass

from launcher.config.settings import Settings
from launcher.estimate.adapter import trained
from launcher.estimate.engine_facts import engine_facts
from launcher.estimate.model import ModelFacts
from launcher.estimate.parts import MIB, Part, in_mib
from launcher.estimate.vram import AVERAGE, average_bytes

NVME_BUFFERS = {"offload_optimizer": 4, "offload_param": 5}
"""How many buffers DeepSpeed swaps through; its own ``buffer_count``."""
MAX_IN_CPU = 1_000_000_000
"""Parameters that stay in host memory beside NVMe; DeepSpeed's own ``max_in_cpu``."""
PARAMETERS = "parameters, pinned"
LOCKED = "buffers for NVMe, locked"
"""The share of host memory that no swapping and no limit may take away."""
LIBRARIES, SEVERAL_LIBRARIES, PLAIN_LIBRARIES = 2145, 2650, 2250
"""MiB of Python, torch and the libraries of CUDA for each process that trains, with DeepSpeed alone (measured on two
runs of this engine), with DeepSpeed and NCCL, and without DeepSpeed (measured on runs of the engine before)."""
BEFORE_THE_ENGINE = 1750
"""The same while the model is loaded; measured."""
HEAP_KEEPS, REUSED = 0.84, 0.61
"""Of the weights that stage 3 takes apart into pageable memory, what the process keeps once they lie elsewhere; and of
that, what weights on their way to a file lie in. Measured on one run, of SDXL with its parameters on the CPU."""
KEPT = "freed, and kept by the process"


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Resident memory of all processes on a machine, at the peak."""

    parts: tuple[Part, ...]
    pinned_mib: int
    """Of them, what CUDA keeps in place, in one process after the other."""


def host_memory(settings: Settings, model: ModelFacts) -> HostMemory:
    """What a run takes of host memory.

    Args:
        settings: of the run.
        model: its sizes.
    """
    ds, ranks, of = settings.deepspeed, settings.launch.num_processes, trained(settings.training.adapter, model)
    c = 4 if ds.precision == "no" else 2
    parts, pinned = _of_deepspeed(settings, model)
    parts = {"Python, torch and CUDA libraries": _libraries(settings) * MIB * ranks, **parts}
    if settings.training.ema.ema_device == "cpu":
        parts[AVERAGE] = average_bytes(settings, model)
    # As the model is loaded it lies in host memory whole; weights that are saved pass through host memory once more.
    loading = ranks * (BEFORE_THE_ENGINE * MIB + c * of.held) - sum(parts.values())
    parts["weights on their way"] = max(0, _written(settings) * of.parameters - REUSED * parts.get(KEPT, 0), loading)
    machines = settings.launch.machine_count
    return HostMemory(in_mib({name: size / machines for name, size in parts.items()}), round(pinned / machines / MIB))


def _libraries(settings: Settings) -> int:
    if not settings.launch.deepspeed:
        return PLAIN_LIBRARIES
    return LIBRARIES if settings.launch.num_processes == 1 else SEVERAL_LIBRARIES


def _of_deepspeed(settings: Settings, model: ModelFacts) -> tuple[dict[str, float], float]:
    """Bytes by part, of all ranks; and how many of them are pinned."""
    ds, ranks, of = settings.deepspeed, settings.launch.num_processes, trained(settings.training.adapter, model)
    facts, parameters = engine_facts(settings, of), of.parameters
    c, parts = facts.weight_bytes, dict[str, float]()
    pin = ds.offload_optimizer_pin_memory
    buffers = "optimizer, pinned" if pin else "optimizer, buffers"
    if "offload_optimizer" in ds.nvme_parts:
        group = _largest_group(settings, model)
        parts[LOCKED] = ranks * NVME_BUFFERS["offload_optimizer"] * 4 * group
        parts[buffers] = c * parameters  # gradients
        parts["optimizer, pageable"] = ranks * 4 * group
    elif facts.offload_optimizer and facts.stage:
        gradients = c if facts.one_pass else 4
        accumulated = c if not facts.one_pass and facts.stage == 2 and facts.accumulation > 1 else 0
        if facts.stage == 3:
            if not facts.one_pass:
                gradients += c  # as they come
            parts[buffers] = gradients * parameters
            parts["optimizer, pageable"] = 4 * (1 + facts.moments) * parameters
        else:
            rounded = 0 if facts.one_pass and c == 4 else c  # weights on their way up, beside masters
            if facts.local_sums:
                gradients *= ranks
            parts[buffers] = (4 + gradients + rounded + accumulated) * parameters
            parts[buffers] += 0 if facts.one_pass else ranks * c * of.largest_tensor
            parts["optimizer, pageable"] = 4 * facts.moments * parameters
    pinned = parts.get(buffers, 0) if pin else 0
    if "offload_param" in ds.nvme_parts:
        share = of.held / ranks
        here = min(share, MAX_IN_CPU)
        parts[LOCKED] = parts.get(LOCKED, 0) + ranks * c * NVME_BUFFERS["offload_param"] * ds.offload_param_buffer_size
        if here < share:  # what does not stay is written from a buffer of its own
            parts[LOCKED] += ranks * c * ranks * _largest_group(settings, model)
        parts[PARAMETERS] = ranks * c * here
    elif facts.offload_param:
        # DeepSpeed pins what is trained whatever offload_param.pin_memory says.
        parts[PARAMETERS] = c * (of.held if ds.offload_param_pin_memory else parameters)
        if not ds.offload_param_pin_memory:
            parts["parameters, pageable"] = c * of.frozen
            parts[KEPT] = HEAP_KEEPS * c * parameters
    return parts, pinned + parts.get(PARAMETERS, 0)


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
