"""Generators of a run, each a function of what it is for."""

import hashlib

import torch


def seeded(purpose: str, *numbers: int) -> torch.Generator:
    """A CPU generator of its own for each purpose and numbers.

    Hashed, because generators seeded with neighbouring integers start alike.
    """
    text = ":".join([purpose, *map(str, numbers)])
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little", signed=True)
    return torch.Generator().manual_seed(seed)
