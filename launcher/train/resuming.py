"""What a resume needs around DeepSpeed 0.19.8's ``load_checkpoint``: what it trips over, and what it forgets."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from deepspeed.ops.adam import DeepSpeedCPUAdam, FusedAdam


def empty_groups(engine: Any) -> None:
    """Makes an engine of stage 3 that has not stepped yet ready for a load, by what every step of it ends with.

    A load adds its masters to the optimizer's groups, which are empty but for torch's Adagrad: that makes its sums when
    it is made, so DeepSpeed makes it anew once there are masters, and forgets them in its group. They would be there
    twice, and torch finds "a parameter group that doesn't match the size of optimizer's group".
    """
    for group in engine.optimizer.param_groups:
        group["params"] = []


def repeat_bias_corrections(engine: Any) -> None:
    """Makes an Adam that updates on the CPU what it would be if it had made the updates that were loaded.

    Its C++ keeps the betas to the power of the updates as fp32 products that each update multiplies on, outside of all
    that is saved. After a load it takes ``pow`` instead, whose last bits differ: the third update would be longer by a
    hundred-thousandth than in a run that was not interrupted, later ones by less. So a placeholder is updated as often,
    at 10 microseconds each. torch's Adam, and DeepSpeed's on a GPU, take the powers anew for every update.

    Source: ``IncrementStep`` in DeepSpeed's ``csrc/includes/cpu_adam.h``.
    """
    base = getattr(engine.optimizer, "optimizer", engine.optimizer)
    adam = getattr(base, "aux_optimizer", base)  # beside Muon
    if not isinstance(adam, DeepSpeedCPUAdam) and not (isinstance(adam, FusedAdam) and engine.device.type == "cpu"):
        return
    updates = max((int(state["step"]) for state in base.state.values() if "step" in state), default=0)
    placeholder = torch.zeros(1)
    placeholder.grad = torch.zeros(1)
    groups, states = adam.param_groups, adam.state
    adam.param_groups, adam.state = [{**groups[0], "params": [placeholder], "step": 0}], defaultdict(dict)
    for _ in range(updates):
        adam.step()
    adam.param_groups, adam.state = groups, states


def restore_states(engine: Any, states: Path) -> None:
    """Restores what a load leaves out of a checkpoint of an optimizer on NVMe.

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
