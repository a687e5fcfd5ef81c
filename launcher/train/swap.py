"""What NVMe offload needs beside the engine: the states that a resume forgets."""

from pathlib import Path
from typing import Any

import torch


def restore_states(engine: Any, states: Path) -> None:
    """Restores what DeepSpeed 0.19.8 leaves out when it loads a checkpoint of an optimizer on NVMe.

    It copies the swapped files back and no more: the optimizer begins anew, without moments, step and learning rate,
    and groups of parameters under 1 MiB, which stay in memory, keep the weights that the model had before. Called on
    every rank.

    Args:
        engine: DeepSpeed's, after its ``load_checkpoint``.
        states: this rank's file of optimizer states.
    """
    optimizer = engine.optimizer
    saved = torch.load(states, map_location="cpu", weights_only=False)["optimizer_state_dict"]
    by_group = saved["optimizer_state_dict"]["state"]
    for group, kept in zip(optimizer.param_groups, saved["optimizer_state_dict"]["param_groups"], strict=True):
        group.update({name: value for name, value in kept.items() if name != "params"})
    optimizer.checkpoint_event_prologue()
    optimizer.optimizer_swapper.purge_state()  # Muon's states are there from the start
    for index, master in enumerate(optimizer.fp32_partitioned_groups_flat):
        size = optimizer.fp16_partitioned_groups_flat_numel[index]
        swapped = optimizer.optimizer_swapper._get_param_swap_info(master)
        optimizer.state[master] = {
            name: torch.empty(size, dtype=value.dtype) if swapped and _is_moment(value) else value
            for name, value in by_group.get(index, {}).items()
        }
        if swapped:
            # Counts the moments among what is swapped, so that their memory is given back too: the files hold them.
            optimizer.optimizer_swapper._get_param_swap_info(master)
            swapped.release_memory()
        else:
            master.data.copy_(saved["fp32_flat_groups"][index].data)
            optimizer._reassign_or_swap_out_partitioned_parameters(index)
    optimizer.checkpoint_event_epilogue()
    optimizer.loss_scaler = saved["loss_scaler"]


def _is_moment(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0
