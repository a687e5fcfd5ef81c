"""DeepSpeed's engine around the U-Net, through its public entry points; a resume needs more, in ``resuming``, and the
masters in place do."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param

from launcher.config.engine import parameter_groups, parts_before_the_gpu, uses_torch_adam
from launcher.train import cpu_info
from launcher.train.groups import decay_groups, dimensions, split_groups
from launcher.train.offload.optimizers import replacing_deepspeeds
from launcher.train.offload.pinning import pin_exactly
from launcher.train.resuming import empty_groups, repeat_bias_corrections, restore_states
from launcher.train.universal import into_deepspeed
from launcher.train.universal.filling import Piece

cpu_info.patch_cpuinfo()

TAG = "engine"
"""Folder of DeepSpeed's own files inside a checkpoint."""
LAYOUT = "layout"
"""Key in them of what they say for whoever reads them without an engine."""


def trainable(
    model: torch.nn.Module, weight_decay_exclude: str = "none", group_elements: int | None = None
) -> Iterator[Any]:
    """What is trained, for ``deepspeed.initialize``: parameters or groups of them.

    Of what DeepSpeed marked for Muon only matrices stay marked.

    Args:
        model: its parameters.
        weight_decay_exclude: which of them do not decay.
        group_elements: of a group at most; None where DeepSpeed may have them all in one.

    For Muon DeepSpeed marks every weight with two dimensions or more that is no embedding, before it reads these: at
    convolutions, which have four, its update stops. Unmarked they go to the Adam beside it, with biases and norms.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        if getattr(parameter, "use_muon", False):
            parameter.use_muon = dimensions(parameter) == 2  # type: ignore[attr-defined]
    groups = decay_groups(parameters, weight_decay_exclude)
    yield from split_groups(groups, group_elements) if group_elements else groups


class DeepSpeedEngine:
    """The U-Net in training under one DeepSpeed configuration."""

    def __init__(self, unet: torch.nn.Module, config: Mapping[str, Any], weight_decay_exclude: str = "none") -> None:
        """Builds optimizer, schedule and partitions; what deepspeed.json says is what DeepSpeed gets."""
        self._unet = unet
        self.torch_adam = uses_torch_adam(config["optimizer"])
        pin_exactly()
        if parts_before_the_gpu(config):
            deepspeed.zero.Init(module=unet, config_dict_or_path=dict(config))
        with replacing_deepspeeds(config):
            self._engine, self._optimizer, _, _ = deepspeed.initialize(
                model=unet,
                model_parameters=trainable(unet, weight_decay_exclude, parameter_groups(config)),
                config=dict(config),
            )
        self._optimizer_type: str = config["optimizer"]["type"]
        self._names = {parameter: name for name, parameter in unet.named_parameters() if parameter.requires_grad}

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> Any:
        """The U-Net's forward pass."""
        return self._engine(sample, timestep, **conditioning)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of a micro-batch; DeepSpeed divides by the accumulation."""
        self._engine.backward(loss)

    def step(self) -> None:
        """Ends a micro-batch; the last of a step updates the weights and the schedule."""
        self._engine.step()

    def evaluating(self, evaluating: bool) -> None:
        """Switches between evaluation and training."""
        self._engine.train(not evaluating)

    @property
    def learning_rate(self) -> float:
        """The rate the next update uses: the optimizer's own, not what a schedule announces."""
        return float(self._engine.optimizer.param_groups[0]["lr"])

    @property
    def gradient_norm(self) -> float | None:
        """Global norm of the last update's gradients before clipping; None where DeepSpeed does not tell."""
        norm = self._engine.get_global_grad_norm()
        return None if norm is None else float(norm)

    @property
    def loss_scale(self) -> float | None:
        """What the next loss is multiplied with in fp16; None in other precisions."""
        if not self._engine.fp16_enabled():
            return None
        # Without ZeRO the optimizer keeps it elsewhere than with.
        return float(getattr(self._optimizer, "loss_scale_config", self._optimizer).cur_scale)

    @property
    def updated(self) -> bool:
        """Whether the last step changed the weights; in fp16 one whose gradients overflow does not."""
        return bool(self._engine.was_step_applied())

    def save(self, folder: Path) -> None:
        """Writes everything a resume needs below ``folder``; every rank calls it."""
        state = {LAYOUT: into_deepspeed.layout(self._engine, self._names)}
        self._engine.save_checkpoint(
            str(folder), tag=TAG, client_state=state, save_latest=False, exclude_frozen_parameters=True
        )

    def load(self, folder: Path) -> None:
        """Restores what :meth:`save` wrote; every rank calls it."""
        if self._engine.zero_optimization_stage() == 3:
            empty_groups(self._engine)
        loaded, _ = self._engine.load_checkpoint(str(folder), tag=TAG, custom_load_fn=_load_trained)
        if loaded is None:
            raise FileNotFoundError(folder / TAG)
        if self._engine.zero_nvme_offload_optimizer():
            (states,) = (folder / TAG).glob(f"*zero_pp_rank_{self._engine.global_rank}_mp_rank_00_optim_states.pt")
            restore_states(self._engine, states)
        repeat_bias_corrections(self._engine)

    def load_universal(self, folder: Path, step: int) -> None:
        """Continues a universal checkpoint of ``step`` steps; every rank calls it."""
        into_deepspeed.load(self._engine, self._names, folder, self._optimizer_type, step)
        repeat_bias_corrections(self._engine)

    def master_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each trained parameter's fp32 master by name, whole; every rank must go through all of them."""
        kept = self._masters_at_stage_0()
        for parameter, name in self._names.items():
            master = kept.get(parameter)
            if master is None:
                master = safe_get_full_fp32_param(parameter)  # None where the weights are their own masters
            yield name, (parameter if master is None else master).detach()

    def master_partitions(self) -> list[torch.Tensor]:
        """This rank's own share of the fp32 masters: flat pieces from stage 1 on, before that whole ones on rank 0."""
        return into_deepspeed.partitions(self._engine, self._names)

    def pieces_of_partitions(self) -> list[list[Piece]]:
        """What of which parameter lies in each of :meth:`master_partitions`."""
        return into_deepspeed.pieces_of_partitions(self._engine, self._names)

    def _masters_at_stage_0(self) -> dict[torch.nn.Parameter, torch.Tensor]:
        """Each weight's master, which ``safe_get_full_fp32_param`` of 0.19.8 does not find there."""
        if self._engine.zero_optimization_stage() > 0:
            return {}
        return dict(into_deepspeed.unpartitioned_masters(self._engine, self._names))


def _load_trained(src: Mapping[str, torch.Tensor], dst: torch.nn.Module) -> None:
    """Loads a module's saved state, which holds all that is trained, into a module that has the frozen rest already."""
    missing, unexpected = dst.load_state_dict(src, strict=False)
    trained = {name for name, parameter in dst.named_parameters() if parameter.requires_grad}
    if unexpected or not trained.isdisjoint(missing):
        lacking = sorted(trained.intersection(missing))
        raise KeyError(
            f"it lacks {', '.join(lacking) or 'nothing'} and has {', '.join(unexpected) or 'nothing'} beyond"
        )
