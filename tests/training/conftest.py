"""The tiny SDXL, its caches, and one process that trains."""

from pathlib import Path

import pytest
import torch

from launcher.config.training import DataSettings, ModelSettings, TrainingSettings
from launcher.pictures import scan
from launcher.train import caches
from launcher.train.distributed import World
from launcher.train.models import ModelSource
from launcher.train.report import Report


@pytest.fixture(scope="session")
def alone() -> World:
    """The only process; it needs no group."""
    return World(rank=0, world_size=1, local_rank=0, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def model(assets) -> ModelSource:
    return ModelSource(assets / "model", assets / "model" / "vae")


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def dataset(assets, model, cache_dir, alone) -> caches.CachedDataset:
    """The demo's pictures at 32 px."""
    training = TrainingSettings(
        model=ModelSettings(pretrained_model_name_or_path=str(model.folder)),
        data=DataSettings(instance_data_dir=str(assets / "pictures"), resolution=32, cache_dir=str(cache_dir)),
    )
    pictures = scan(assets / "pictures", 32)
    return caches.prepare(training, model, pictures, torch.float32, alone, Report())
