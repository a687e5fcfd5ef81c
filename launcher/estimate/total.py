"""The estimate of a plan: GPU memory, and by DeepSpeed's own allocation rules host memory and disk.

P parameters, N ranks, L the largest tensor, k micro-batches a step, c bytes of a weight in training (2 in half
precision, 4 in fp32). The rules were measured by counting tensors after a step at N = 1 and read in the code for
N > 1. What is not known is left out and said so.
"""

from dataclasses import asdict, dataclass
from typing import Any

from launcher.config.deepspeed import split
from launcher.config.settings import Settings
from launcher.data.extent import NOTHING, Extent
from launcher.data.sources import bucketings
from launcher.estimate.adapter import trained
from launcher.estimate.engine_facts import master_bytes, moments
from launcher.estimate.model import ModelFacts
from launcher.estimate.parts import MIB, Part, Phase, in_mib
from launcher.estimate.vram import AVERAGE, average_bytes, gpu_phases, knows_activations

VAE_MIB, DECODING_PEAK = 319, 4882.0
"""MiB of SDXL's VAE in fp32, and what it takes to decode one picture of 1024 x 1024: measured on an H200, linear in
pixels from 512 px to 1536."""
PER_TENSOR_ROUNDING = 1.31
"""What pinning SDXL's 1,680 tensors one by one takes of their size: each is rounded up by itself."""
NVME_BUFFERS = {"offload_optimizer": 4, "offload_param": 5}
"""How many buffers DeepSpeed swaps through; its own ``buffer_count``."""
MAX_IN_CPU = 1_000_000_000
"""Parameters that stay in host memory beside NVMe; DeepSpeed's own ``max_in_cpu``."""
LOCKED = "buffers for NVMe, locked"
"""The share of host memory that no swapping and no limit may take away."""
ON_NVME = {"offload_optimizer": "optimizer on NVMe", "offload_param": "parameters on NVMe"}
"""Shares of disk that lie below an NVMe path, by what is offloaded."""
IN_ROWS = "pictures in rows"
"""The share of disk that pictures take which lie in rows and are written to the cache."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cost of a plan in MiB: GPU memory per rank, host memory and disk of the machine."""

    gpu: tuple[Phase, ...]
    """By phase, in the order of a run."""
    host: tuple[Part, ...]
    disk: tuple[Part, ...]
    notes: tuple[str, ...]
    step_seconds: float | None = None
    """Of an optimizer step; None where the speed of this machine is not known."""

    @property
    def gpu_peak(self) -> Phase:
        """The phase that takes most of each GPU."""
        return max(self.gpu, key=lambda phase: phase.process_mib)

    @property
    def gpu_mib(self) -> int:
        """Per GPU, at the peak: what nvidia-smi shows for the process."""
        return self.gpu_peak.process_mib

    @property
    def gpu_least_mib(self) -> int:
        """Per GPU, below which it fails; down from :attr:`gpu_mib` torch gives back what it holds and goes on."""
        return max(phase.least_mib for phase in self.gpu)

    @property
    def host_mib(self) -> int:
        """Of all ranks."""
        return _sum(self.host)

    @property
    def disk_mib(self) -> int:
        """At the most, while the newest checkpoint is written beside those kept."""
        return _sum(self.disk)

    def phase(self, name: str) -> Phase:
        """One of the phases; KeyError where a run has none of that name."""
        return {phase.name: phase for phase in self.gpu}[name]

    def to_json(self) -> dict[str, Any]:
        """For plan.json and ``estimate --json``."""
        phases = [{**asdict(phase), "process_mib": phase.process_mib} for phase in self.gpu]
        return {
            "gpu_mib": self.gpu_mib,
            "gpu_least_mib": self.gpu_least_mib,
            "gpu_peak": self.gpu_peak.name,
            "host_mib": self.host_mib,
            "disk_mib": self.disk_mib,
            **asdict(self),
            "gpu": phases,
        }


def estimate(settings: Settings, model: ModelFacts, data: Extent = NOTHING) -> Estimate:
    """What a run of these settings costs.

    Args:
        settings: of the run.
        model: its sizes.
        data: how much there is of the data set, for its caches.
    """
    notes = []
    if model.assumed:
        notes.append("the model is not here yet: SDXL's own sizes are assumed")
    if not knows_activations(model):
        notes.append("activations are known for SDXL's U-Net only and left out")
    if settings.training.validation.validation_steps and settings.training.validation.num_validation_images:
        notes.append(_decoding(settings))
    if settings.training.adapter.is_lora:
        of = trained(settings.training.adapter, model)
        rank, some, whole = settings.training.adapter.lora_rank, of.parameters / 1e6, of.held / 1e6
        notes.append(f"LoRA of rank {rank}: {some:,.1f} M of {whole:,.1f} M parameters are trained")
    if settings.deepspeed.nvme_parts:
        notes.append(_drive_life(settings, model))
    if split(settings.deepspeed.extra)[1]:
        notes.append("what DeepSpeed's JSON says beyond the questions is not counted")
    return Estimate(
        gpu=gpu_phases(settings, model),
        host=_host(settings, model),
        disk=_disk(settings, model, data),
        notes=tuple(notes),
    )


def _decoding(settings: Settings) -> str:
    training = settings.training
    side = training.validation.validation_resolution or training.data.resolution
    decoding = round(VAE_MIB + DECODING_PEAK * (side / 1024) ** 2)
    return (
        f"pictures while it trains: between steps SDXL's VAE takes {decoding} MiB of GPU memory for moments; where "
        "they are not free it decodes in tiles, and at last on the CPU"
    )


def _drive_life(settings: Settings, model: ModelFacts) -> str:
    # Fields of DeepSpeed's whole JSON: few runs are priced that need them.
    from launcher.deepspeed.nvme import drive_life  # noqa: PLC0415
    from launcher.deepspeed.run_facts import facts_of  # noqa: PLC0415
    from launcher.deepspeed.view import View  # noqa: PLC0415

    run = facts_of(settings).given(parameters=trained(settings.training.adapter, model).held)
    return drive_life(View(settings.deepspeed_json()), run)


def _host(settings: Settings, model: ModelFacts) -> tuple[Part, ...]:
    ds, ranks, of = settings.deepspeed, settings.launch.num_processes, trained(settings.training.adapter, model)
    c, parameters = 4 if ds.precision == "no" else 2, of.parameters
    parts: dict[str, float] = {"Python, torch and CUDA libraries": 2600 * MIB * ranks}
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
    if "offload_param" in ds.nvme_parts:
        share = of.held / ranks
        here = min(share, MAX_IN_CPU)
        parts[LOCKED] = parts.get(LOCKED, 0) + ranks * c * NVME_BUFFERS["offload_param"] * ds.offload_param_buffer_size
        if here < share:  # what does not stay is written from a buffer of its own
            parts[LOCKED] += ranks * c * ranks * _largest_group(settings, model)
        parts["parameters, pinned"] = ranks * _rounded(c * here)
    elif ds.offload_param_device != "none" and ds.stage == 3:
        # DeepSpeed pins this buffer whatever offload_param.pin_memory says.
        parts["parameters, pinned"] = ranks * _rounded(c * of.held / ranks)
    if settings.training.ema.ema_device == "cpu":
        parts[AVERAGE] = average_bytes(settings, model)
    return in_mib({name: size / settings.launch.machine_count for name, size in parts.items()})


def _largest_group(settings: Settings, model: ModelFacts) -> float:
    """Elements, at the most, that a GPU updates at once: a group is full with the parameter that passes its size."""
    ranks, of = settings.launch.num_processes, trained(settings.training.adapter, model)
    return min(of.parameters, ranks * settings.deepspeed.sub_group_size + of.largest_tensor) / ranks


def _rounded(size: float) -> float:
    """torch rounds a pinned block up to a power of two."""
    return 2 ** (int(size) - 1).bit_length() if size > 1 else size


def _disk(settings: Settings, model: ModelFacts, data: Extent) -> tuple[Part, ...]:
    training, c = settings.training, 4 if settings.deepspeed.precision == "no" else 2
    together, of = _checkpoints_together(settings), trained(settings.training.adapter, model)
    parts = {f"checkpoints, {together} at a time": together * _checkpoint_bytes(settings, model)}
    if training.export.export_pipeline:
        export_bytes = 4 if training.export.export_dtype == "fp32" else 2
        if training.adapter.is_lora:
            parts["exported LoRA"] = 2 * export_bytes * of.parameters  # in two forms
        else:
            parts["exported pipeline"] = export_bytes * of.parameters + model.other_components_mib * MIB
    for part in settings.deepspeed.nvme_parts:
        states = 4 + 4 + 4 * moments(settings.deepspeed)  # master, gradient and moments
        each = c if part == "offload_param" else states
        held = of.held if part == "offload_param" else of.parameters
        parts[ON_NVME[part]] = each * held / settings.launch.machine_count
    if data.pictures:
        latents = 2 * 4 * 4 * max(bucketing.largest for bucketing in bucketings(training)) // 64
        parts["caches"] = data.pictures * (latents + c * (77 * 2048 + 1280))
    parts[IN_ROWS] = data.in_rows
    return in_mib(parts)


def _checkpoints_together(settings: Settings) -> int:
    """While the newest is written, those kept are still there; a short run never writes so many."""
    checkpoints = settings.training.checkpoints
    written = -(-settings.training.optimization.max_train_steps // checkpoints.checkpointing_steps)
    return min(checkpoints.checkpoints_total_limit + 1, written)


def _checkpoint_bytes(settings: Settings, model: ModelFacts) -> float:
    ds, contents, alone = settings.deepspeed, settings.training.checkpoints.checkpoint_contents, 0
    parameters = trained(settings.training.adapter, model).parameters
    if contents != "full":
        alone = 4 if settings.training.export.export_dtype == "fp32" else 2
        alone *= 2 if settings.training.adapter.is_lora else 1  # diffusers' file and kohya's
    if contents == "weights":
        return alone * parameters
    weights = 4 if ds.precision == "no" else 2
    if ds.stage == 3:
        weights = 0  # stage 3 keeps its weights as masters only
    states = (alone + weights + master_bytes(settings) + 4 * moments(ds)) * parameters
    return states + average_bytes(settings, model)


def checkpoint_mib(settings: Settings, model: ModelFacts) -> int:
    """One checkpoint: 14 bytes a parameter with Adam in half precision at stages 1 and 2, 2 for weights alone."""
    return round(_checkpoint_bytes(settings, model) / MIB)


def _sum(parts: tuple[Part, ...]) -> int:
    return sum(part.mib for part in parts)
