"""The U-Net in training without DeepSpeed: torch's own optimizer over fp32 masters, DDP where there are several ranks.

Everything is on the device: 20 bytes a parameter in half precision, 16 in fp32, and the activations. What
deepspeed.json says of optimizer, schedule, precision, accumulation and clipping holds here too.
"""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime import lr_schedules
from torch.nn.parallel import DistributedDataParallel

from launcher.train.distributed import World
from launcher.train.groups import decay_groups
from launcher.train.universal.filling import Piece, fill, in_sequence, move_schedule, scale_of_torch, states_of
from launcher.train.universal.form import MASTER, Universal

STATE = "engine.pt"
"""Masters, optimizer, schedule and loss scale, written by rank 0."""


class PlainEngine:
    """The U-Net in training under plain PyTorch."""

    torch_adam = True

    def __init__(
        self, unet: torch.nn.Module, config: Mapping[str, Any], world: World, weight_decay_exclude: str = "none"
    ) -> None:
        """Moves the U-Net to the device and makes fp32 masters of what it trains.

        Args:
            unet: in the training precision.
            config: as deepspeed.json holds it; its ZeRO part is not looked at.
            world: the ranks.
            weight_decay_exclude: what does not decay.
        """
        self._world, self._unet = world, unet.to(world.device)
        self._names, self._weights = zip(
            *(pair for pair in unet.named_parameters() if pair[1].requires_grad), strict=True
        )
        half = self._weights[0].dtype != torch.float32
        self._masters = (
            [weight.detach().float().requires_grad_() for weight in self._weights] if half else list(self._weights)
        )
        self._optimizer_type: str = config["optimizer"]["type"]
        self._accumulation, self._clipping = config["gradient_accumulation_steps"], config["gradient_clipping"]
        self._optimizer = _optimizer(decay_groups(self._masters, weight_decay_exclude), config["optimizer"])
        self._schedule = getattr(lr_schedules, config["scheduler"]["type"])(
            self._optimizer, **config["scheduler"]["params"]
        )
        self._scaler = torch.amp.GradScaler(world.device.type, enabled=self._weights[0].dtype == torch.float16)
        self._forward: Any = (
            DistributedDataParallel(self._unet, gradient_as_bucket_view=True) if world.world_size > 1 else self._unet
        )
        self._micro_steps = 0
        self._norm: float | None = None
        self._updated = False

    def __call__(self, sample: torch.Tensor, timestep: torch.Tensor, **conditioning: Any) -> Any:
        """The U-Net's forward pass; ranks exchange gradients in the last micro-batch of a step only."""
        with self._quiet():
            return self._forward(sample, timestep, **conditioning)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradient of a micro-batch, divided by the accumulation."""
        with self._quiet():
            self._scaler.scale(loss / self._accumulation).backward()

    def step(self) -> None:
        """Ends a micro-batch; the last of a step updates the weights and the schedule."""
        self._micro_steps += 1
        if self._micro_steps % self._accumulation:
            return
        if self._masters[0] is not self._weights[0]:
            for master, weight in zip(self._masters, self._weights, strict=True):
                master.grad = None if weight.grad is None else weight.grad.float()
        self._scaler.unscale_(self._optimizer)
        self._norm = float(torch.nn.utils.clip_grad_norm_(self._masters, self._clipping or torch.inf))
        scale = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._updated = self._scaler.get_scale() >= scale  # a smaller one says that a gradient was not finite
        if self._updated:
            self._schedule.step()
        self._weights_from_masters()
        self._unet.zero_grad()
        self._optimizer.zero_grad()

    def evaluating(self, evaluating: bool) -> None:
        """Switches between evaluation and training."""
        self._unet.train(not evaluating)

    @property
    def learning_rate(self) -> float:
        """The rate the next update uses."""
        return float(self._optimizer.param_groups[0]["lr"])

    @property
    def gradient_norm(self) -> float | None:
        """Global norm of the last update's gradients before clipping."""
        return self._norm

    @property
    def loss_scale(self) -> float | None:
        """What the next loss is multiplied with in fp16; None in other precisions."""
        return float(self._scaler.get_scale()) if self._scaler.is_enabled() else None

    @property
    def updated(self) -> bool:
        """Whether the last step changed the weights; in fp16 one whose gradients overflow does not."""
        return self._updated

    def save(self, folder: Path) -> None:
        """Writes everything a resume needs below ``folder``; every rank calls it."""
        if self._world.is_main:
            state = {
                "masters": dict(zip(self._names, self._masters, strict=True)),
                "optimizer": self._optimizer.state_dict(),
                "order": self._order(),
                "schedule": self._schedule.state_dict(),
                "scaler": self._scaler.state_dict(),
            }
            torch.save(state, folder / STATE)

    def load(self, folder: Path) -> None:
        """Restores what :meth:`save` wrote; every rank calls it."""
        state = torch.load(folder / STATE, map_location="cpu")  # not mapped: a checkpoint may be removed meanwhile
        with torch.no_grad():
            for name, master in zip(self._names, self._masters, strict=True):
                master.copy_(state["masters"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        self._weights_from_masters()

    def load_universal(self, folder: Path, step: int) -> None:
        """Continues a universal checkpoint; every rank calls it."""
        del step  # nothing here counts them but the schedule
        with Universal(folder) as checkpoint:
            checkpoint.require({name: master.shape for name, master in zip(self._names, self._masters, strict=True)})
            for name, master in zip(self._names, self._masters, strict=True):
                pieces = in_sequence([(name, master.numel())])
                fill(master, pieces, MASTER, checkpoint)
                self._optimizer.state[master] = states_of(
                    checkpoint, master, pieces, self._optimizer, self._optimizer_type
                )
            move_schedule(self._schedule, checkpoint)
            self._scaler.load_state_dict(scale_of_torch(self._scaler.state_dict(), checkpoint))
        self._weights_from_masters()

    def _order(self) -> list[str]:
        """Names in the order in which the optimizer numbers its states."""
        names = {id(master): name for name, master in zip(self._names, self._masters, strict=True)}
        return [names[id(master)] for group in self._optimizer.param_groups for master in group["params"]]

    def master_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Each trained parameter's fp32 master by name, whole."""
        yield from zip(self._names, (master.detach() for master in self._masters), strict=True)

    def master_partitions(self) -> list[torch.Tensor]:
        """The masters, on rank 0: every rank holds the same."""
        return [master.detach() for master in self._masters] if self._world.is_main else []

    def pieces_of_partitions(self) -> list[list[Piece]]:
        """Each of :meth:`master_partitions` is a whole parameter."""
        held = zip(self._names, self.master_partitions(), strict=False)  # none on other ranks
        return [in_sequence([(name, master.numel())]) for name, master in held]

    def _weights_from_masters(self) -> None:
        with torch.no_grad():
            for master, weight in zip(self._masters, self._weights, strict=True):
                if master is not weight:
                    weight.copy_(master)

    def _quiet(self) -> Any:
        """No exchange of gradients before the last micro-batch of a step."""
        last = (self._micro_steps + 1) % self._accumulation == 0
        return nullcontext() if last or self._forward is self._unet else self._forward.no_sync()


def _optimizer(parameters: list[Any], wanted: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer by DeepSpeed's name for it, whose Adam decays weights as AdamW does unless told otherwise."""
    params: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in wanted["params"].items()
    }
    if wanted["type"] == "Adagrad":
        return torch.optim.Adagrad(parameters, **params)
    return torch.optim.AdamW(parameters, fused=True, **params)  # as fast as DeepSpeed's own
