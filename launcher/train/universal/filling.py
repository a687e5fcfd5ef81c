"""Filling an optimizer from a universal checkpoint, whatever its engine divides the parameters into."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from launcher.train.universal.form import DEEPSPEEDS_NAMES, STATES, Universal


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a parameter's numbers inside a tensor of masters."""

    name: str
    start: int
    """Where it begins in the parameter."""
    place: int
    """Where it begins in the tensor."""
    size: int


def in_sequence(sizes: Iterable[tuple[str, int]]) -> list[Piece]:
    """Whole parameters, one after another."""
    pieces, place = [], 0
    for name, size in sizes:
        pieces.append(Piece(name, 0, place, size))
        place += size
    return pieces


def fill(tensor: torch.Tensor, pieces: list[Piece], kind: str, checkpoint: Universal) -> None:
    """Overwrites what lies in a tensor of masters, or of something beside them.

    Args:
        tensor: numbers in it that belong to no parameter are padding and stay.
        pieces: what of which parameter lies in it.
        kind: of the checkpoint's tensors.
        checkpoint: what they are read from.
    """
    tensor = tensor.detach()
    for piece in pieces:
        whole = checkpoint.tensor(kind, piece.name)
        if tensor.dim() == 1:
            part = whole.flatten().narrow(0, piece.start, piece.size)
            tensor.narrow(0, piece.place, piece.size).copy_(part)
        else:  # a parameter as it is
            tensor.copy_(whole)


def states_of(
    checkpoint: Universal, master: torch.Tensor, pieces: list[Piece], optimizer: torch.optim.Optimizer, kind: str
) -> dict[str, Any]:
    """The optimizer's states for a tensor of masters, in the form that this implementation keeps them in.

    Args:
        checkpoint: what they are read from.
        master: as it lies; states lie beside it.
        pieces: what of which parameter it holds.
        optimizer: torch's, or one of DeepSpeed's.
        kind: its type in deepspeed.json.
    """
    is_torchs = type(optimizer).__module__.startswith("torch.")
    updates = checkpoint.counters.updates
    found: dict[str, Any] = {"step": updates}
    if is_torchs:
        place = master.device if optimizer.defaults.get("fused") else None
        found["step"] = torch.tensor(float(updates), device=place)
    for name in STATES[kind]:
        own = name if is_torchs else DEEPSPEEDS_NAMES.get((kind, name), name)
        found[own] = torch.zeros_like(master, dtype=torch.float32, requires_grad=False)
        fill(found[own], pieces, name, checkpoint)
    if type(optimizer).__name__ == "DeepSpeedCPULion":
        found["exp_avg_sq"] = torch.zeros_like(master, requires_grad=False)  # made by it and never used
    return found


def move_schedule(schedule: Any, checkpoint: Universal) -> None:
    """Puts a schedule of DeepSpeed's where the checkpoint's was, and the learning rate with it."""
    if checkpoint.counters.schedule >= 0:
        schedule.step(checkpoint.counters.schedule)


def scale_of_deepspeed(scaler: Any, checkpoint: Universal, steps: int) -> None:
    """Sets a dynamic loss scale of DeepSpeed's; a static one, and one that the checkpoint has not, stays as it is.

    Args:
        scaler: has ``cur_scale``, ``cur_iter`` and ``last_overflow_iter``.
        checkpoint: what is continued.
        steps: made so far.
    """
    kept = checkpoint.counters.loss_scale
    if kept is not None and getattr(scaler, "last_overflow_iter", None) is not None:
        scaler.cur_scale, scaler.cur_iter = kept.scale, steps
        scaler.last_overflow_iter = steps - kept.good_steps - 1
        if kept.hysteresis is not None and hasattr(scaler, "cur_hysteresis"):
            scaler.cur_hysteresis = kept.hysteresis


def scale_of_torch(state: Mapping[str, Any], checkpoint: Universal) -> dict[str, Any]:
    """A GradScaler's state with the checkpoint's scale; torch counts to an interval and begins anew."""
    kept = checkpoint.counters.loss_scale
    if kept is None or not state:
        return dict(state)
    return {**state, "scale": kept.scale, "_growth_tracker": kept.good_steps % state["growth_interval"]}
