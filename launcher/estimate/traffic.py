"""What an optimizer step moves: over PCIe, through host memory, and from and to NVMe.

Source: ``copy_grads_in_partition``, ``async_accumulate_grad_in_cpu_via_gpu`` and ``step`` of ``stage_1_and_2.py``,
``partition_grads`` and ``step`` of ``stage3.py``, DeepSpeed 0.19.8, and ``launcher.train.offload``. What GPUs send each
other is not counted.
"""

from dataclasses import dataclass
from typing import Any

from launcher.config.settings import Settings
from launcher.estimate.adapter import Trained, trained
from launcher.estimate.engine_facts import EngineFacts, engine_facts
from launcher.estimate.model import ModelFacts
from launcher.estimate.passes import passes_of_sdxl

FP32 = 4


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes over PCIe, of each GPU."""

    up: float = 0
    """From the host."""
    down: float = 0
    """To the host."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Of an optimizer step, in bytes; what is shared is of all GPUs of one machine."""

    forward: Transfer
    """Of all micro-batches of the step, as is the next."""
    backward: Transfer
    optimizer: Transfer
    beside: Transfer
    """While the next step computes: masters for a moving average on the CPU."""
    host: float
    """Read and written in host memory, by the CPU and by what copies there."""
    nvme_read: float = 0
    nvme_fetched: float = 0
    """Of that, weights for forward and backward passes."""
    nvme_written: float = 0
    nvme_written_by_run: float = 0
    drive_steps: float | None = None
    """How many such steps a drive's makers warrant; None where nothing is written."""

    @property
    def up(self) -> float:
        """Over PCIe to each GPU."""
        return self.forward.up + self.backward.up + self.optimizer.up + self.beside.up

    @property
    def down(self) -> float:
        """Over PCIe from each GPU."""
        return self.forward.down + self.backward.down + self.optimizer.down + self.beside.down

    def to_json(self) -> dict[str, Any]:
        """For plan.json and ``estimate --json``."""
        shared = ("host", "nvme_read", "nvme_written", "nvme_written_by_run")
        return {
            "pcie_up_bytes": round(self.up),
            "pcie_down_bytes": round(self.down),
            **{f"{name}_bytes": round(getattr(self, name)) for name in shared},
            "drive_steps": self.drive_steps and round(self.drive_steps),
        }


def checkpointed(settings: Settings) -> str:
    """What is recomputed in the backward pass: ``none``, ``transformer_blocks`` or ``all``."""
    optimization = settings.training.optimization
    return optimization.gradient_checkpointing_granularity if optimization.gradient_checkpointing else "none"


def traffic(settings: Settings, model: ModelFacts) -> Traffic:
    """What a step of these settings moves.

    Args:
        settings: of the run.
        model: its sizes.
    """
    of = trained(settings.training.adapter, model)
    facts = engine_facts(settings, of)
    share = of.parameters / facts.ranks if facts.stage else of.parameters
    width, micro_batches, here = facts.weight_bytes, facts.accumulation, settings.launch.processes_here
    fetched = _fetched(settings, model, of.held, facts)
    forward, backward = (
        width * elements / facts.ranks * micro_batches if facts.offload_param else 0 for elements in fetched
    )
    up, down = _gradients(facts, of.parameters, share)
    updated = Transfer(
        up=width * share if facts.offload_optimizer and not facts.offload_param else 0,
        down=width * share if facts.offload_param and not facts.offload_optimizer else 0,
    )
    averaged = _averaged(settings, share if facts.stage else of.parameters / here)
    beside = Transfer(down=0 if facts.offload_optimizer else FP32 * averaged)
    drive = _drive(settings, of, sum(fetched) * micro_batches)
    over_pcie = forward + backward + up + down + updated.up + updated.down + beside.down
    by_cpu = _update_bytes(settings, facts) * share + 3 * FP32 * averaged  # an average is read, and written again
    return Traffic(
        Transfer(up=forward),
        Transfer(up=backward + up, down=down),
        updated,
        beside,
        host=here * (over_pcie + by_cpu) + drive.read + drive.written,
        nvme_read=drive.read,
        nvme_fetched=drive.fetched,
        nvme_written=drive.written,
        nvme_written_by_run=drive.written * settings.training.optimization.max_train_steps,
        drive_steps=drive.steps,
    )


def _fetched(settings: Settings, model: ModelFacts, held: int, facts: EngineFacts) -> tuple[float, float]:
    """Elements fetched in a micro-batch's forward and backward pass, of all GPUs together."""
    if facts.stage != 3:
        return 0, 0
    if not model.is_sdxl:
        return held, held  # once a pass, at the least
    forward, backward = passes_of_sdxl(checkpointed(settings), facts)
    return forward.elements, backward.elements


def _gradients(facts: EngineFacts, parameters: float, share: float) -> tuple[float, float]:
    """Bytes up and down: DeepSpeed's optimizer gets fp32; all else is in the format of the weights."""
    if not facts.offload_optimizer:
        return 0, 0
    width, micro_batches = facts.weight_bytes, facts.accumulation
    if facts.one_pass:
        before = 0 if facts.stage == 1 else micro_batches - 1  # stage 1 adds up on the GPU
        added_up = width * before * (parameters if facts.local_sums else share)
        return added_up, added_up + width * share
    up = down = 0
    if facts.stage == 2 and micro_batches > 1:
        up, down = micro_batches - 1, micro_batches
    elif facts.stage == 3:  # comes down, and goes up again at once
        up, down = micro_batches, micro_batches
    return width * up * share, (width * down + FP32) * share


def _averaged(settings: Settings, share: float) -> float:
    """Elements of a moving average on the CPU that a step updates, of those that a GPU has."""
    ema = settings.training.ema
    return share / ema.ema_update_interval if ema.use_ema and ema.ema_device == "cpu" else 0


def _update_bytes(settings: Settings, facts: EngineFacts) -> float:
    """What the CPU reads and writes for each parameter that it updates."""
    if not facts.offload_optimizer:
        return 0
    width, converted = facts.weight_bytes, facts.stage == 3 and not facts.offload_param
    if facts.one_pass:  # reads masters, gradients and moments, writes masters, moments and weights
        each = FP32 * (2 + 2 * facts.moments) + width
        return each + (FP32 + 5 * width if converted else width)
    each = FP32 * (3 + 2 * facts.moments)  # reads master, gradient and moments, writes all but the gradient
    each += 2 * FP32 if clips(settings) else 0
    each += FP32 + 2 * width  # converts it; a line of memory is read before it is written
    if converted:
        each += 3 * width  # what was converted is copied to where the GPU can take it from
    return each


def clips(settings: Settings) -> bool:
    """Whether gradients are multiplied before the update; stage 3 does it in any case."""
    ds = settings.deepspeed
    return ds.gradient_clipping > 0 or ds.stage == 3 or ds.precision == "fp16"


@dataclass(frozen=True, slots=True)
class _Drive:
    read: float = 0
    fetched: float = 0
    written: float = 0
    steps: float | None = None


def _drive(settings: Settings, of: Trained, fetched: float) -> _Drive:
    """What a step moves from and to one machine's drive."""
    if not settings.deepspeed.nvme_parts:
        return _Drive()
    # Fields of DeepSpeed's whole JSON: few runs are priced that need them.
    from launcher.deepspeed.nvme import fetched_bytes, steps_of_a_drive, swapped_bytes, updated_bytes  # noqa: PLC0415
    from launcher.deepspeed.run_facts import facts_of  # noqa: PLC0415
    from launcher.deepspeed.view import View  # noqa: PLC0415

    view, facts, machines = View(settings.deepspeed_json()), facts_of(settings), settings.launch.machine_count
    held, updated = facts.given(parameters=of.held), facts.given(parameters=of.parameters)
    weights, written = fetched_bytes(view, held, fetched) / machines, swapped_bytes(view, updated) / machines
    return _Drive(updated_bytes(view, updated) / machines + weights, weights, written, steps_of_a_drive(written))
