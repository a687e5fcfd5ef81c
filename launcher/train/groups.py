"""Which parameters weight decay leaves alone: groups as torch's optimizers and DeepSpeed's take them."""

from collections.abc import Iterable
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
    decaying, others = ([one for one in every if (one.ndim > 1) is decays] for decays in (True, False))
    groups: list[dict[str, Any]] = [{"params": decaying}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
