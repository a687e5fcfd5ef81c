"""Groups of parameters as torch's optimizers and DeepSpeed's take them: by weight decay, and by size."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch


def decay_groups(parameters: Iterable[torch.Tensor], exclude: str) -> list[Any]:
    """The parameters themselves, which are one group, or groups that decay and do not.

    Args:
        parameters: what is trained.
        exclude: ``none``, or ``norms_and_biases``: every parameter with one dimension.
    """
    every = list(parameters)
    if exclude == "none":
        return every
    decaying, others = ([one for one in every if (dimensions(one) > 1) is decays] for decays in (True, False))
    groups: list[dict[str, Any]] = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def dimensions(parameter: torch.Tensor) -> int:
    """How many a parameter has as its layer knows it; one that stage 3 has taken apart is flat and empty itself."""
    return len(getattr(parameter, "ds_shape", parameter.shape))


def split_groups(groups: Sequence[Any], elements: int) -> list[dict[str, Any]]:
    """The same groups in pieces of at most so many elements, the last parameter first.

    When an engine of ZeRO's stages 1 and 2 starts, copies of a group's weights lie on the GPU beside all others: 15 GB
    where one group holds all of SDXL's U-Net. Backwards, because gradients come so: those that follow each other lie
    next to each other, and are copied together.

    Args:
        groups: parameters, or groups of them with their own settings.
        elements: of a piece; a greater parameter has one of its own.
    """
    whole = groups if isinstance(groups[0], dict) else [{"params": groups}]
    return [{**group, "params": some} for group in whole for some in _in_pieces(reversed(group["params"]), elements)]


def _in_pieces(parameters: Iterable[torch.Tensor], elements: int) -> Iterator[list[torch.Tensor]]:
    some: list[torch.Tensor] = []
    held = 0
    for parameter in parameters:
        if some and held + parameter.numel() > elements:
            yield some
            some, held = [], 0
        some.append(parameter)
        held += parameter.numel()
    if some:
        yield some
