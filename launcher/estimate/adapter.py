"""How much of a model is trained: all of it, or a LoRA beside some of its layers. Torch-free."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from launcher.config.training import AdapterSettings
from launcher.config.training.adapter import is_target
from launcher.estimate.model import ModelFacts


@dataclass(frozen=True, slots=True)
class Trained:
    """What gradients, masters and optimizer states are kept of."""

    parameters: int
    largest_tensor: int
    """Elements."""
    tensors: int
    frozen: int = 0
    """Parameters that are computed with and never updated."""

    @property
    def held(self) -> int:
        """All parameters that are computed with."""
        return self.parameters + self.frozen


def trained(settings: AdapterSettings, model: ModelFacts) -> Trained:
    """What of a model is trained."""
    if not settings.is_lora:
        return Trained(model.parameters, model.largest_tensor, model.tensors)
    sizes = list(_matrices(settings, model.layers))
    return Trained(sum(sizes), max(sizes, default=0), len(sizes), frozen=model.parameters)


def _matrices(settings: AdapterSettings, layers: Mapping[str, tuple[int, ...]]) -> list[int]:
    """Elements of each matrix: peft's first has the layer's kernel and the rank's outputs, its second none."""
    rank, sizes = settings.lora_rank, []
    for name, (outputs, *inputs) in layers.items():
        if is_target(name, settings.targets):
            sizes += [rank * math.prod(inputs), outputs * rank]
    return sizes
