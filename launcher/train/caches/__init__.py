"""The data set as latents and prompt embeddings on disk."""

from launcher.train.caches.dataset import CachedDataset, Sample
from launcher.train.caches.prepare import prepare

__all__ = ["CachedDataset", "Sample", "prepare"]
