"""What every engine but the launcher's own run is measured with: the same batches, a bare loop, the launcher's clock.

Seconds of a step are wall time from the end of the step before to its own, data included, with one wait for the device
at its end; its phases are told by CUDA events, as the launcher's own loop does.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import UNet2DConditionModel

from launcher.machine.process_memory import ProcessMemory
from launcher.runs.events import EventLog
from launcher.train.memory import MemoryMeter
from launcher.train.report import Report
from launcher.train.steps import StepClock

Batch = dict[str, torch.Tensor]
"""``sample``, ``timestep``, ``encoder_hidden_states``, ``text_embeds``, ``time_ids`` and ``target``, the noise."""


class Engine(Protocol):
    """What the loop drives."""

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> Any: ...

    def backward(self, loss: torch.Tensor) -> Any:
        """Adds the gradient of a micro-batch, divided by the accumulation."""

    def step(self) -> Any:
        """Ends a micro-batch; the last of a step updates the weights."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """What each of these commands is told."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--model", type=Path, required=True, help="a diffusers folder")
    made.add_argument("--batches", type=Path, required=True, help="as benchmarks.training.preparing writes them")
    made.add_argument("--events", type=Path, required=True, help="the file to append events to, as a run does")
    made.add_argument("--accumulation", type=int, default=1)
    return made


def rank() -> int:
    """Of this process among those that train together."""
    return int(os.environ.get("RANK", "0"))


def begin(events: Path) -> tuple[torch.device, Report]:
    """This process's device, and the report that rank 0 writes; call it before anything is on the device."""
    process = ProcessMemory()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if torch.cuda.is_available() else None
    report = Report(EventLog(events)) if rank() == 0 else Report()
    if device is None:
        return torch.device("cpu"), report
    torch.cuda.set_device(device)
    report.meter = MemoryMeter(device, process)
    return device, report


def load_unet(model: Path) -> torch.nn.Module:
    """bf16, on the CPU, with diffusers' own gradient checkpointing."""
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", torch_dtype=torch.bfloat16)
    unet.enable_gradient_checkpointing()
    return unet.train()


def load_batches(file: Path) -> list[Batch]:
    """Every micro-batch of this rank, on the CPU."""
    return torch.load(file.with_name(f"{file.name}-{rank()}.pt"))


def train(engine: Engine, batches: Sequence[Batch], accumulation: int, device: torch.device, report: Report) -> None:
    """All batches; phase ``train``, then an event ``step`` for each step, its loss the mean over all ranks."""
    taken: list[tuple[torch.Tensor, dict[str, float]]] = []
    with report.phase("train"):
        clock = StepClock(device)
        for first in range(0, len(batches), accumulation):
            losses = []
            for ready in batches[first : first + accumulation]:
                with clock.phase("data"):
                    batch = {name: tensor.to(device) for name, tensor in ready.items()}
                with clock.phase("forward"):
                    loss = _loss(engine, batch)
                with clock.phase("backward"):
                    engine.backward(loss)
                losses.append(loss.detach())
                with clock.phase("optimizer"):
                    engine.step()
            taken.append((torch.stack(losses).mean(), clock.read()))
    means = torch.stack([loss for loss, _ in taken])
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(means)
        means /= torch.distributed.get_world_size()
    for step, (loss, (_, seconds)) in enumerate(zip(means.tolist(), taken, strict=True), 1):
        report.event("step", step=step, loss=loss, seconds=seconds)


def _loss(engine: Engine, batch: Batch) -> torch.Tensor:
    conditions = {"text_embeds": batch["text_embeds"], "time_ids": batch["time_ids"]}
    predicted = engine(
        batch["sample"],
        batch["timestep"],
        encoder_hidden_states=batch["encoder_hidden_states"],
        added_cond_kwargs=conditions,
        return_dict=False,
    )[0]
    return torch.nn.functional.mse_loss(predicted.float(), batch["target"])
