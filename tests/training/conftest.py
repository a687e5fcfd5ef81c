"""The tiny SDXL, its caches, and one process that trains."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.data import scan
from harness.recorder import Recorder
from launcher.config.training import DataSettings, ModelSettings, TrainingSettings
from launcher.train import caches
from launcher.train.distributed import World
from launcher.train.models import ModelSource
from launcher.train.report import Report


@pytest.fixture(scope="session", autouse=True)
def ninja_of_the_environment(extensions):
    """First on the PATH, as the supervisor puts it: another version would compile every extension anew.

    Those that every engine takes are there: a test that waits for a process would wait for their compiler as well.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tensors are tiny here: where cores are shared, threads wait for each other longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def alone() -> World:
    """The only process; it needs no group."""
    return World(rank=0, world_size=1, device=torch.device("cpu"))


@pytest.fixture(scope="session")
def group() -> World:
    """The only process too, in a group of its own as DeepSpeed wants it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, str(value))
        world = World.join()
        yield world
        world.close()


@pytest.fixture
def report() -> Recorder:
    return Recorder()


@pytest.fixture
def small_disk(tmp_path):
    """Makes folders that are disks of so many KiB; skips where nothing may be mounted."""
    mounted = []

    def make(kib: int) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


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
