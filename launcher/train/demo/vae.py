"""Teaches the tiny SDXL's VAE the demo's pictures: an untrained one would decode to noise."""

from itertools import product
from typing import Any

import numpy as np
import torch

from launcher.train.demo.sprites import BACKGROUNDS, COLOURS, THINGS, draw_sprite

STEPS = 900
BATCH = 4
LEARNING_RATE = 4e-3
KL_WEIGHT = 6e-5
"""High enough that posteriors stay wide: the decoder then forgives what the tiny U-Net draws slightly off."""


def train_vae(vae: Any, seed: int) -> None:
    """Trains an AutoencoderKL on every sprite there can be and sets its scaling factor.

    Args:
        vae: changed in place; its latents have unit variance after ``scaling_factor``.
        seed: of the batches and the posteriors' noise.
    """
    pictures = torch.stack([_pixels(*names) for names in product(THINGS, COLOURS, BACKGROUNDS)])
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    vae.train()
    for _ in range(STEPS):
        batch = pictures[torch.randint(len(pictures), (BATCH,), generator=generator)]
        posterior = vae.encode(batch).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
        loss = torch.nn.functional.l1_loss(decoded, batch) + KL_WEIGHT * posterior.kl().mean() / 64
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    vae.eval()
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 5))


def _pixels(thing: str, colour: str, background: str) -> torch.Tensor:
    """(3, 64, 64) in [-1, 1]."""
    pixels = torch.from_numpy(np.array(draw_sprite(thing, colour, background), dtype=np.float32))
    return pixels.permute(2, 0, 1) / 127.5 - 1.0
