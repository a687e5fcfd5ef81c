"""The estimate of a plan: GPU memory, host memory and disk. What is not known is left out and said so."""

from dataclasses import asdict, dataclass
from typing import Any

from launcher.config.deepspeed import SPARING_LINEAR, WHOLE_BLOCKS
from launcher.config.deepspeed_json import split
from launcher.config.nested import leaves
from launcher.config.settings import Settings
from launcher.data.extent import NOTHING, Extent
from launcher.data.sources import largest_picture
from launcher.estimate.adapter import trained
from launcher.estimate.engine_facts import master_bytes, moments
from launcher.estimate.host import host_memory
from launcher.estimate.model import ModelFacts
from launcher.estimate.parts import MIB, Part, Phase, in_mib
from launcher.estimate.step_time import StepTime, step_time, why_unpredicted
from launcher.estimate.traces import find, step_of, why_none
from launcher.estimate.traffic import Traffic, traffic
from launcher.estimate.vram import DECODING_PEAK, VAE_MIB, average_bytes, gpu_phases
from launcher.machine.bandwidths import Bandwidths

ON_NVME = {"offload_optimizer": "optimizer on NVMe", "offload_param": "parameters on NVMe"}
"""Shares of disk that lie below an NVMe path, by what is offloaded."""
MEASURED_ON = 2
"""GPUs: beyond them nothing was held against a run."""
IN_ROWS = "pictures in rows"
"""The share of disk that pictures take which lie in rows and are written to the cache."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Cost of a plan in MiB: GPU memory per rank, host memory and disk of the machine."""

    gpu: tuple[Phase, ...]
    """By phase, in the order of a run."""
    host: tuple[Part, ...]
    host_pinned_mib: int
    """Of host memory, what CUDA keeps in place."""
    disk: tuple[Part, ...]
    notes: tuple[str, ...]
    traffic: Traffic
    """Of an optimizer step."""
    step_time: StepTime | None = None
    """Of an optimizer step; None where the speed of this machine is not known, or the notes say why."""

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
    def step_seconds(self) -> float | None:
        """Of an optimizer step, where it is known."""
        return self.step_time.total if self.step_time else None

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
            "traffic": self.traffic.to_json(),
            "step_seconds": self.step_seconds and round(self.step_seconds, 3),
            "step_time": self.step_time and self.step_time.to_json(),
        }


def estimate(
    settings: Settings, model: ModelFacts, data: Extent = NOTHING, speed: Bandwidths | None = None
) -> Estimate:
    """What a run of these settings costs.

    Args:
        settings: of the run.
        model: its sizes.
        data: how much there is of the data set, for its caches.
        speed: of the machine that trains; None: nobody measured it.
    """
    notes, moved = [], traffic(settings, model)
    if model.assumed:
        notes.append("the model is not here yet: SDXL's own sizes are assumed")
    if untraced := _untraced(settings, model):
        notes.append(untraced)
    if settings.training.validation.validation_steps and settings.training.validation.num_validation_images:
        notes.append(_decoding(settings))
    if settings.training.adapter.is_lora:
        of = trained(settings.training.adapter, model)
        rank, some, whole = settings.training.adapter.lora_rank, of.parameters / 1e6, of.held / 1e6
        notes.append(f"LoRA of rank {rank}: {some:,.1f} M of {whole:,.1f} M parameters are trained")
    if settings.launch.num_processes > MEASURED_ON:
        notes.append(f"computed for {settings.launch.num_processes} GPUs, by rules that were measured on one and two")
    if settings.deepspeed.nvme_parts:
        notes.append(_drive_life(settings, model))
    if any(path not in (WHOLE_BLOCKS, SPARING_LINEAR) for path, _ in leaves(split(settings.deepspeed.extra)[1])):
        notes.append("what DeepSpeed's JSON says beyond the questions is not counted")
    if speed and (why := why_unpredicted(settings, model, speed)):
        notes.append(f"the time of a step is not predicted {why}")
    host = host_memory(settings, model)
    return Estimate(
        gpu=gpu_phases(settings, model, host.pinned_mib / settings.launch.processes_here),
        host=host.parts,
        host_pinned_mib=host.pinned_mib,
        disk=_disk(settings, model, data),
        notes=tuple(notes),
        traffic=moved,
        step_time=step_time(settings, model, moved, speed) if speed else None,
    )


def _untraced(settings: Settings, model: ModelFacts) -> str:
    """What GPU memory is without a trace of the step, and why there is none; empty where there is one."""
    step = step_of(settings, model)
    if find(step):
        return ""
    by_formula = f"GPU memory is a formula's, {'with' if model.is_sdxl else 'without'} activations"
    if failed := why_none(step):
        return f"{by_formula}: a step of this U-Net cannot be traced ({failed})"
    cpu = settings.launch.use_cpu
    return f"{by_formula}{': for the CPU it is not traced' if cpu else ', until a step of this U-Net is traced'}"


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
        latents = 2 * 4 * 4 * largest_picture(training) // model.pixels_per_latent
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
