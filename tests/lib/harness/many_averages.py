"""``harness.rank harness.many_averages JOB``: averages the weights of many configurations in one process of several.

JOB is a JSON file: model folder, pictures, cache, resolution, decay and cases by name, each with a precision, an update
interval and a DeepSpeed configuration. Rank 0 leaves ``NAME.pt`` beside it: see :func:`averaged`.
"""

import gc
import json
import sys
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel

from harness.data import scan
from harness.recorder import Recorder
from launcher.config.training import DataSettings, EmaSettings, TrainingSettings
from launcher.runs.checkpoints import Checkpoint
from launcher.train import caches, ema
from launcher.train.batches import Batches, Division
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.distributed import World
from launcher.train.loop import DTYPES, Loop
from launcher.train.models import ModelSource
from launcher.train.plain_engine import PlainEngine

STEPS, SAVED_AT = 5, 3


def masters(engine) -> list[torch.Tensor]:
    """Every master, whole, in the order of the names."""
    return [master.detach().float().cpu().clone() for _, master in engine.master_weights()]


class Run:
    """One engine with its loop, from the start or from where another was saved."""

    def __init__(self, case, world, model, dataset, decay, checkpoint=None) -> None:
        self.world, self.recorder = world, Recorder()
        config, dtype = case["config"], DTYPES[case["precision"]]
        unet = model.unet(dtype)
        self.engine = PlainEngine(unet, config, world) if case["plain"] else DeepSpeedEngine(unet, config)
        if checkpoint:
            self.engine.load(checkpoint.path)
        settings = EmaSettings(use_ema=True, ema_decay=decay, ema_update_interval=case["interval"])
        self.average = ema.begin(self.engine, settings, world, checkpoint, self.recorder)
        scheduler = model.noise_scheduler()
        batches = Batches(
            dataset,
            seed=3,
            scaling_factor=model.vae_scaling_factor,
            timesteps=scheduler.config.num_train_timesteps,
            device=world.device,
            dtype=dtype,
        )
        division = Division(world.rank, world.world_size, 2 // world.world_size, config["gradient_accumulation_steps"])
        self.loop = Loop(
            self.engine, batches, scheduler, division, world, self.recorder, lambda: None, average=self.average
        )

    def averages(self) -> list[torch.Tensor]:
        with self.average.exchanged():
            return masters(self.engine)


def averaged(name, case, world, model, dataset, decay, folder: Path) -> dict:
    """Trains a case straight through, and from its middle again.

    Returns:
        ``average``, ``again`` (of the resumed run), ``expected`` (diffusers' EMAModel over the whole masters of each
        step), ``before`` and ``after`` (the masters around the exchange): lists of tensors; and ``warnings``.
    """
    path = folder / name
    if world.is_main:
        path.mkdir()
    world.barrier()
    straight = Run(case, world, model, dataset, decay)
    reference = EMAModel([torch.nn.Parameter(master) for master in masters(straight.engine)], decay=decay)

    def after(step: int) -> None:
        if step % case["interval"] == 0:
            reference.step([torch.nn.Parameter(master) for master in masters(straight.engine)])
        if step == SAVED_AT:
            straight.engine.save(path)
            straight.average.save(path)
            world.barrier()

    straight.loop.steps(0, STEPS, save_every=1, save=after)
    before = masters(straight.engine)
    found = {"average": straight.averages(), "expected": reference.shadow_params, "before": before}
    found["after"] = masters(straight.engine)
    resumed = Run(case, world, model, dataset, decay, Checkpoint(path, SAVED_AT, {}))
    resumed.loop.steps(SAVED_AT, STEPS, save_every=10, save=lambda step: None)
    return {**found, "again": resumed.averages(), "warnings": resumed.recorder.warnings}


def main() -> None:
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    torch.set_num_threads(1)
    world = World.join()
    model = ModelSource(Path(job["model"]), Path(job["model"]) / "vae")
    training = TrainingSettings(data=DataSettings(resolution=job["resolution"], cache_dir=job["cache"]))
    pictures = scan(Path(job["pictures"]), job["resolution"])
    dataset = caches.prepare(training, model, pictures, torch.float32, world, Recorder())
    for name, case in job["cases"].items():
        found = averaged(name, case, world, model, dataset, job["decay"], path.parent)
        if world.is_main:
            torch.save(found, path.parent / f"{name}.pt")
            print(name, flush=True)
        gc.collect()
        world.barrier()
    world.close()
