"""How DeepSpeed's engine divides the parameters, and what a universal checkpoint becomes in it.

Its own ``load_universal`` covers ZeRO without NVMe and two of the optimizers, and reads files of its own that differ
between the stages; the optimizers' tensors below are the same that its ``safe_set_full_fp32_param`` sets, which would
read a whole group from NVMe for every parameter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from launcher.errors import InvalidInputError
from launcher.train.universal.filling import (
    Piece,
    fill,
    in_sequence,
    move_schedule,
    scale_of_deepspeed,
    states_of,
)
from launcher.train.universal.form import MASTER, Universal


@dataclass(frozen=True, slots=True)
class Share:
    """A tensor of masters on this rank, and what it holds."""

    master: torch.Tensor
    pieces: list[Piece]
    weights: list[torch.Tensor]
    """Of stage 0 in half precision: what the masters are copied to, one for each piece."""


def layout(engine: Any, names: Mapping[torch.nn.Parameter, str]) -> dict[str, Any]:
    """What a checkpoint has to say so that it can be read without an engine.

    Returns:
        Of stage 3, ``swapped``: the name under which each group's masters lie on NVMe, or None where they do not.
        Of the others, ``groups``: names in the order of the optimizer, by group.
    """
    optimizer = engine.optimizer
    if engine.zero_optimization_stage() == 3:
        swapped = [
            master.ds_id if optimizer._swappable_optimizer_subgroup(index) else None
            for index, master in enumerate(optimizer.fp32_partitioned_groups_flat)
        ]
        return {"swapped": swapped}
    in_half = (getattr(optimizer, name, None) for name in ("bit16_groups", "fp16_groups", "bf16_groups"))
    groups = next((groups for groups in in_half if groups), None)
    groups = groups or [group["params"] for group in optimizer.param_groups]
    return {"groups": [[names[parameter] for parameter in group] for group in groups]}


def load(engine: Any, names: Mapping[torch.nn.Parameter, str], folder: Path, kind: str, steps: int) -> None:
    """Fills an engine that has not trained yet; every rank calls it.

    Args:
        engine: DeepSpeed's.
        names: of the parameters it trains.
        folder: of a universal checkpoint.
        kind: the optimizer's type in deepspeed.json.
        steps: trained when it was saved.

    Raises:
        InvalidInputError: it is of another model.
    """
    optimizer = engine.optimizer
    base = getattr(optimizer, "optimizer", optimizer)
    stage = engine.zero_optimization_stage()
    with Universal(folder) as checkpoint:
        checkpoint.require({name: getattr(each, "ds_shape", each.shape) for each, name in names.items()})
        if stage == 3:
            _fill_partitioned(optimizer, names, checkpoint, kind)
        else:
            for share in _shares(optimizer, names):
                fill(share.master, share.pieces, MASTER, checkpoint)
                base.state[share.master] = states_of(checkpoint, share.master, share.pieces, base, kind)
                for weight, piece in zip(share.weights, share.pieces if share.weights else (), strict=True):
                    part = share.master.detach().view(-1).narrow(0, piece.place, piece.size)
                    weight.data.copy_(part.view(weight.shape))
        if stage in (1, 2):
            optimizer.update_lp_params()
        move_schedule(engine.lr_scheduler, checkpoint)
        scaler = getattr(optimizer, "loss_scaler", None) or getattr(optimizer, "loss_scale_config", None)
        scale_of_deepspeed(scaler, checkpoint, steps)
        engine.global_steps, engine.skipped_steps = steps, checkpoint.counters.skipped
        engine.global_samples = steps * engine.train_batch_size()


def unpartitioned_masters(
    engine: Any, names: Mapping[torch.nn.Parameter, str]
) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
    """Of stage 0, which nothing of DeepSpeed's own gives: each trained parameter's fp32 master, in its shape."""
    by_name = {name: parameter for parameter, name in names.items()}
    for share in _shares(engine.optimizer, names):
        for piece in share.pieces:
            parameter = by_name[piece.name]
            yield parameter, share.master.detach().view(-1).narrow(0, piece.place, piece.size).view(parameter.shape)


def partitions(engine: Any, names: Mapping[torch.nn.Parameter, str]) -> list[torch.Tensor]:
    """This rank's own share of the masters: flat pieces from stage 1 on, before that whole ones on rank 0."""
    if engine.zero_optimization_stage() == 3:
        return [master.detach() for master in engine.optimizer.fp32_partitioned_groups_flat]
    if flat := _flat_partitions(engine.optimizer):
        return [master.detach() for master in flat[1]]
    return [master for _, master in unpartitioned_masters(engine, names)] if engine.global_rank == 0 else []


def pieces_of_partitions(engine: Any, names: Mapping[torch.nn.Parameter, str]) -> list[list[Piece]]:
    """What of which parameter lies in each of :func:`partitions`."""
    if engine.zero_optimization_stage() == 3:
        return [_pieces_of_group(engine.optimizer, index, names) for index in range(len(engine.optimizer.fp16_groups))]
    shares = _shares(engine.optimizer, names)
    if engine.zero_optimization_stage() > 0:
        return [share.pieces for share in shares]
    if engine.global_rank > 0:
        return []
    return [[replace(piece, place=0)] for share in shares for piece in share.pieces]


def _pieces_of_group(optimizer: Any, index: int, names: Mapping[torch.nn.Parameter, str]) -> list[Piece]:
    """Of a group of stage 3: this rank's part of each parameter, padded so that all ranks have as much."""
    pieces, place = [], 0
    for each in optimizer.fp16_groups[index]:
        part = each.partition_numel()
        start = part * optimizer._get_param_partition_rank(each)
        if start < each.ds_numel:
            pieces.append(Piece(names[each], start, place, min(part, each.ds_numel - start)))
        place += part
    return pieces


def _fill_partitioned(
    optimizer: Any, names: Mapping[torch.nn.Parameter, str], checkpoint: Universal, kind: str
) -> None:
    """Stage 3: one group after another, each swapped in and out again where it lies on NVMe."""
    optimizer.checkpoint_event_prologue()
    if optimizer.swap_optimizer:
        optimizer.optimizer_swapper.purge_state()
    for index, master in enumerate(optimizer.fp32_partitioned_groups_flat):
        swapped = optimizer._swappable_optimizer_subgroup(index)
        if swapped:
            optimizer._optimizer_states_and_gradient_swap_in(index)
        pieces = _pieces_of_group(optimizer, index, names)
        fill(master, pieces, MASTER, checkpoint)
        optimizer.optimizer.state[master] = states_of(checkpoint, master, pieces, optimizer.optimizer, kind)
        optimizer._reassign_or_swap_out_partitioned_parameters(index)
        if swapped:
            optimizer._optimizer_states_and_gradient_swap_out(index)
    optimizer.checkpoint_event_epilogue()


def _flat_partitions(optimizer: Any) -> tuple[Any, Any] | None:
    """Of stages 1 and 2, by group: weights, and this rank's run of their masters; None of other stages."""
    if hasattr(optimizer, "single_partition_of_fp32_groups"):
        return optimizer.bit16_groups, optimizer.single_partition_of_fp32_groups
    if hasattr(optimizer, "fp32_groups_flat_partition"):  # stage 1 with gradients accumulated in fp32
        return optimizer.bf16_groups, optimizer.fp32_groups_flat_partition
    return None


def _shares(optimizer: Any, names: Mapping[torch.nn.Parameter, str]) -> Iterator[Share]:
    """Of the stages that keep weights whole."""
    if flat := _flat_partitions(optimizer):
        for group, master in zip(*flat, strict=True):
            here = [(names[each], each._hp_mapping) for each in group if each._hp_mapping is not None]
            pieces = [
                Piece(
                    name,
                    start=held.lp_fragment_address.start,
                    place=held.hp_fragment_address.start,
                    size=held.hp_fragment_address.numel,
                )
                for name, held in here
            ]
            yield Share(master, pieces, [])
    elif hasattr(optimizer, "fp32_groups_flat"):  # stage 0 in half precision, DeepSpeed's own Adam
        for group, master in zip(optimizer.fp16_groups, optimizer.fp32_groups_flat, strict=True):
            pieces = in_sequence((names[each], each.numel()) for each in group)
            yield Share(master, pieces, group)
    elif hasattr(optimizer, "fp32_groups"):  # the same with other optimizers
        for weights, masters in zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True):
            for weight, master in zip(weights, masters, strict=True):
                yield Share(master, in_sequence([(names[weight], weight.numel())]), [weight])
    elif isinstance(optimizer, torch.optim.Optimizer):  # stage 0 in fp32
        for group in optimizer.param_groups:
            for weight in group["params"]:
                yield Share(weight, in_sequence([(names[weight], weight.numel())]), [])
    else:
        raise InvalidInputError(f"a converted checkpoint cannot be loaded into DeepSpeed's {type(optimizer).__name__}")
