"""The shares that a bar has room for: what each part of a phase counts as."""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from launcher.estimate.parts import Part


class Share(StrEnum):
    """By the name it has in a legend; in the order of a bar."""

    CONTEXT = "context"
    """CUDA context, kernels, workspaces, and what libraries hold beside torch."""
    WEIGHTS = "weights"
    """Of whichever model is there."""
    OPTIMIZER = "optimizer"
    """Masters, states and moving average."""
    GRADIENTS = "gradients"
    """With the buckets they are reduced in."""
    ACTIVATIONS = "activations"
    OTHER = "other"
    UNUSED = "unused"
    """Held by torch's allocator between tensors."""


_SAYS = (
    ("between tensors", Share.UNUSED),
    ("context", Share.CONTEXT),
    ("kernels", Share.CONTEXT),
    ("workspaces", Share.CONTEXT),
    ("NCCL", Share.CONTEXT),
    ("page tables", Share.CONTEXT),
    ("activations", Share.ACTIVATIONS),
    ("gradient", Share.GRADIENTS),
    ("bucket", Share.GRADIENTS),
    ("optimizer", Share.OPTIMIZER),
    ("moving average", Share.OPTIMIZER),
    ("weights", Share.WEIGHTS),
    ("parameters", Share.WEIGHTS),
    ("VAE", Share.WEIGHTS),
    ("encoder", Share.WEIGHTS),
)
"""What a part counts as by what its name says; the first that it says holds."""


def share_of(part: str) -> Share:
    """What a part of a phase counts as, by its name."""
    return next((share for words, share in _SAYS if words in part), Share.OTHER)


def by_share(parts: Iterable[Part]) -> Mapping[Share, int]:
    """MiB of each share that there is something of, in the order of a bar."""
    sums = dict.fromkeys(Share, 0)
    for part in parts:
        sums[share_of(part.name)] += part.mib
    return {share: mib for share, mib in sums.items() if mib}
