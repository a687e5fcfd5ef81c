"""What a universal checkpoint is on disk: whole tensors by parameter name, and the counters beside them.

Below ``universal/``: ``state.json`` and shards of at most 1 GiB, ``NNNNN.safetensors``, which hold for every trained
parameter its fp32 master (``fp32/NAME``), its optimizer states (``exp_avg/NAME`` and so on) and, where there is one,
its moving average (``ema/NAME``), each in the parameter's shape. Nothing in it depends on how the training was divided.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from launcher.errors import InvalidInputError

FOLDER, STATE = "universal", "state.json"
MASTER = "fp32"
"""Kind of tensor beside the kinds of optimizer state."""
AVERAGE = "ema"
"""Kind of the moving average of the weights, where a run keeps one."""
SHARD_BYTES = 2**30
"""Of tensors held in memory while a shard is written."""

STATES = {
    "AdamW": ("exp_avg", "exp_avg_sq"),
    "Adam": ("exp_avg", "exp_avg_sq"),
    "Adagrad": ("sum",),
    "Lion": ("exp_avg",),
}
"""Kinds of state of each convertible optimizer, under torch's names for them where it has the optimizer."""
DEEPSPEEDS_NAMES = {("Adagrad", "sum"): "exp_avg_sq"}
"""What DeepSpeed's own optimizers call a kind of state otherwise."""


@dataclass(frozen=True, slots=True)
class LossScale:
    """A dynamic loss scale, as fp16 needs one."""

    scale: float
    good_steps: int
    """Steps since a gradient was not finite."""
    hysteresis: int | None = None
    """How many more such steps DeepSpeed bears before it lowers the scale; torch bears none."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What a training state is beside its tensors."""

    updates: int
    """That the optimizer has made, for its bias correction; steps skipped for their gradients are none."""
    schedule: int
    """Place in the learning rate's schedule, -1 before it moved: DeepSpeed's ``last_batch_iteration``."""
    skipped: int = 0
    """Steps whose gradients were not finite."""
    loss_scale: LossScale | None = None
    averaged: int = 0
    """Updates that the moving average has taken in."""

    def to_json(self) -> dict[str, Any]:
        """As ``state.json`` stores it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Reads what :meth:`to_json` gave."""
        scale = stored["loss_scale"]
        return cls(**{**stored, "loss_scale": LossScale(**scale) if scale else None})


Parameter = tuple[str, dict[str, torch.Tensor]]
"""A name and its tensors by kind."""


def write(folder: Path, parameters: Iterable[Parameter], counters: Counters) -> None:
    """Writes a universal checkpoint's own files into ``folder``, holding one shard in memory at a time."""
    place = folder / FOLDER
    place.mkdir()
    shard: dict[str, torch.Tensor] = {}
    held = written = 0
    for name, tensors in parameters:
        size = sum(tensor.nbytes for tensor in tensors.values())
        if shard and held + size > SHARD_BYTES:
            written += 1
            save_file(shard, place / f"{written:05}.safetensors")
            shard, held = {}, 0
        shard.update({f"{kind}/{name}": tensor.contiguous() for kind, tensor in tensors.items()})
        held += size
    save_file(shard, place / f"{written + 1:05}.safetensors")
    (place / STATE).write_text(json.dumps(counters.to_json(), indent=2))


class Universal:
    """A universal checkpoint that is read: tensors are mapped, not loaded."""

    def __init__(self, folder: Path) -> None:
        """Opens every shard.

        Args:
            folder: the checkpoint's.
        """
        self._folder, self._files = folder, ExitStack()
        self.counters = Counters.from_json(json.loads((folder / FOLDER / STATE).read_bytes()))
        self._places: dict[str, Any] = {}
        for path in sorted((folder / FOLDER).glob("*.safetensors")):
            shard = self._files.enter_context(safe_open(path, framework="pt"))
            self._places.update(dict.fromkeys(shard.keys(), shard))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._places.clear()
        self._files.close()

    def names(self) -> list[str]:
        """Trained parameters."""
        return [key.removeprefix(f"{MASTER}/") for key in self._places if key.startswith(f"{MASTER}/")]

    @property
    def has_average(self) -> bool:
        """Whether a moving average was kept; one without an update is what the weights were when it began."""
        return any(key.startswith(f"{AVERAGE}/") for key in self._places)

    def require(self, shapes: Mapping[str, torch.Size]) -> None:
        """Refuses a model that is not the checkpoint's.

        Raises:
            InvalidInputError: it trains other parameters, or of other shapes.
        """
        if differing := set(self.names()) ^ shapes.keys():
            raise InvalidInputError(f"{self._folder} and this model train different parameters: {min(differing)}")
        for name, shape in shapes.items():
            key = f"{MASTER}/{name}"
            held = tuple(self._places[key].get_slice(key).get_shape())
            if held != tuple(shape):
                raise InvalidInputError(f"{self._folder} holds {name} in shape {held}, this model in {tuple(shape)}")

    def tensor(self, kind: str, name: str) -> torch.Tensor:
        """A whole tensor, in its parameter's shape.

        Raises:
            InvalidInputError: there is none.
        """
        key = f"{kind}/{name}"
        if key not in self._places:
            raise InvalidInputError(f"{self._folder} holds no {kind} of {name}")
        tensor: torch.Tensor = self._places[key].get_tensor(key)
        return tensor
