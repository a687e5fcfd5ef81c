"""``harness.rank harness.many_pictures JOB``: draws with U-Nets in training, in one process (one of several).

JOB is a JSON file: model folder, pictures, cache, resolution and cases by name, each with a precision, a DeepSpeed
configuration and where it is made to fail. Every rank leaves ``NAME-RANK.pt`` beside it: see :func:`drawn`.
"""

import gc
import json
import sys
from pathlib import Path

import torch
from diffusers import EulerDiscreteScheduler

from harness.data import scan
from harness.many_averages import masters
from harness.recorder import Recorder
from launcher.config.training import DataSettings, TrainingSettings, ValidationSettings
from launcher.train import caches
from launcher.train.batches import Batches, Division
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.distributed import World
from launcher.train.loop import DTYPES, Loop
from launcher.train.models import ModelSource
from launcher.train.plain_engine import PlainEngine
from launcher.train.samples import prompts_to_cache
from launcher.train.validation import Validation

STEPS = 2
PROMPTS = ("a red mushroom", "a blue house", "ein Bär 🐻")
TRAINING = ValidationSettings(
    validation_steps=1, num_validation_images=1, validation_prompts=PROMPTS, validation_num_inference_steps=2
)


class BrokenScheduler:
    """The inference scheduler fails in its first step, once, on one rank: between two forward passes."""

    def __init__(self) -> None:
        self.fails = True

    def __enter__(self):
        self.step = EulerDiscreteScheduler.step

        def step(scheduler, *args, **kwargs):
            if self.fails:
                self.fails = False
                raise ValueError("this scheduler is broken")
            return self.step(scheduler, *args, **kwargs)

        EulerDiscreteScheduler.step = step

    def __exit__(self, *_):
        EulerDiscreteScheduler.step = self.step


class BrokenLayer:
    """A layer in the middle of the U-Net runs out of memory, once, while nothing is learnt."""

    def __init__(self, unet) -> None:
        self.hook = unet.mid_block.register_forward_pre_hook(self.fail)
        self.fails = True

    def fail(self, *_):
        if self.fails and not torch.is_grad_enabled():
            self.fails = False
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB\nand some advice")


class Run:
    """A few steps of one engine."""

    def __init__(self, case, world, model, dataset, folder: Path, draws: bool) -> None:
        config, dtype = case["config"], DTYPES[case["precision"]]
        unet = model.unet(dtype)
        if draws and case.get("fails") == "layer":
            BrokenLayer(unet)
        self.engine = PlainEngine(unet, config, world) if case["plain"] else DeepSpeedEngine(unet, config)
        self.recorder = Recorder()
        scheduler = model.noise_scheduler()
        batches = Batches(
            dataset,
            seed=5,
            scaling_factor=model.vae_scaling_factor,
            timesteps=scheduler.config.num_train_timesteps,
            device=world.device,
            dtype=dtype,
        )
        training = TrainingSettings(data=DataSettings(resolution=32), validation=TRAINING)
        validation = Validation(
            self.engine,
            model,
            training,
            dataset,
            [],
            folder,
            in_lockstep=config["zero_optimization"]["stage"] == 3,
            world=world,
            report=self.recorder,
        )
        division = Division(world.rank, world.world_size, 2 // world.world_size, 1)
        self.loop = Loop(
            self.engine,
            batches,
            scheduler,
            division,
            world,
            self.recorder,
            lambda: None,
            validation=validation if draws else None,
        )

    def steps(self) -> dict:
        """Trains; what no drawing may change."""
        torch.manual_seed(1)
        self.loop.steps(0, STEPS, save_every=100, save=lambda step: None)
        told = [(step["step"], step["loss"], step["grad_norm"]) for step in self.recorder.named("step")]
        return {"told": told, "masters": masters(self.engine), "random": torch.get_rng_state()}


def drawn(name, case, world, model, dataset, folder: Path) -> dict:
    """Trains a case without pictures and with them, and fails where the case says.

    Returns:
        ``start``: the weights before; ``without`` and ``with``: what each step told, the masters at the end and the
        state of the random generator; ``events`` and ``warnings``: of the run that drew.
    """
    without = Run(case, world, model, dataset, folder / name, draws=False).steps()
    gc.collect()
    run = Run(case, world, model, dataset, folder / name, draws=True)
    if case.get("fails") == "scheduler" and world.rank == world.world_size - 1:
        with BrokenScheduler():
            with_pictures = run.steps()
    else:
        with_pictures = run.steps()
    events, warnings = run.recorder.named("pictures"), run.recorder.warnings
    start = [weight.detach() for weight in model.unet(torch.float32).parameters()]
    return {"start": start, "without": without, "with": with_pictures, "events": events, "warnings": warnings}


def prepared(model, pictures: Path, resolution, cache, precision, world) -> caches.CachedDataset:
    """The data set with the prompts' embeddings."""
    training = TrainingSettings(data=DataSettings(resolution=resolution, cache_dir=str(cache)), validation=TRAINING)
    return caches.prepare(
        training,
        model,
        scan(pictures, resolution),
        DTYPES[precision],
        world,
        Recorder(),
        prompts=prompts_to_cache(training, []),
    )


def main() -> None:
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    torch.set_num_threads(1)
    world = World.join()
    model = ModelSource(Path(job["model"]), Path(job["model"]) / "vae")
    dataset = prepared(model, Path(job["pictures"]), job["resolution"], job["cache"], job["precision"], world)
    for name, case in job["cases"].items():
        found = drawn(name, case, world, model, dataset, path.parent)
        torch.save(found, path.parent / f"{name}-{world.rank}.pt")
        gc.collect()
        world.barrier()
    world.close()
