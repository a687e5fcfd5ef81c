"""``harness.rank harness.conversions JOB``: trains configurations from and to checkpoints, as one of several ranks.

JOB is a JSON file: model folder, pictures, cache, resolution and ``runs``, each with its place (``PLACES``), the step
it trains to, the checkpoint it continues (none: from the start), the folder that it saves to, and the name of a file
for what it told. In a process of one rank a test makes the :class:`Trainer` itself.
"""

import gc
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from deepspeed.runtime.zero.partition_parameters import Init

from harness.data import scan
from harness.recorder import Recorder
from harness.tiny_zero import TINY
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.training import DataSettings, EmaSettings, TrainingSettings
from launcher.runs.checkpoints import Identity, to_resume
from launcher.runs.swap import swap_folders
from launcher.train import caches, ema
from launcher.train.batches import Batches, Division
from launcher.train.checkpoint import Checkpoints
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.distributed import World
from launcher.train.extensions import build_swapping
from launcher.train.loop import Loop
from launcher.train.models import ModelSource
from launcher.train.plain_engine import PlainEngine
from launcher.train.report import Report

STEPS, SEED, PICTURES_A_STEP = 20, 7, 4
PLACES = {
    "plain": {},
    "zero0": {"stage": 0},
    "zero1": {"stage": 1},
    "zero2": {"stage": 2},
    "zero3": {"stage": 3},
    "zero2-cpu": {"stage": 2, "offload_optimizer_device": "cpu"},
    "zero3-cpu": {"stage": 3, "offload_optimizer_device": "cpu", "offload_param_device": "cpu"},
    "zero3-nvme": {"stage": 3, "offload_optimizer_device": "nvme", "offload_optimizer_nvme_path": "swap"},
}


@dataclass(frozen=True)
class Run:
    """One stretch of training."""

    place: str
    last_step: int
    source: str = ""
    """A checkpoint's folder."""
    target: str = ""
    """An output folder."""
    told: str = ""
    """A file."""


class Trainer:
    """Trains stretches on one data set; every rank has one."""

    def __init__(self, world: World, model: ModelSource, dataset: caches.CachedDataset, swap: str) -> None:
        self.world, self.model, self.dataset, self.swap = world, model, dataset, swap

    def config(self, place: str) -> dict:
        settings = DeepSpeedSettings(
            # The last group of so many is too small to be swapped.
            **{**TINY, "sub_group_size": 400_000, "stage": 0, "offload_optimizer_device": "none", **PLACES[place]},
            precision="no",
            warmup_type="linear",
        )
        batch = PICTURES_A_STEP // self.world.world_size
        config = to_deepspeed_json(
            settings, train_batch_size=batch, learning_rate=1e-3, warmup_steps=5, total_steps=STEPS
        )
        return json.loads(json.dumps(config).replace('"swap"', json.dumps(self.swap)))

    def train(self, run: Run) -> dict:
        """Losses and rates by step, and at the end the fp32 weights and their average (none where they are swapped)."""
        recorder, config = Recorder(), self.config(run.place)
        unet = self.model.unet(torch.float32)
        Init.param_id = 0  # swapped files are named by it, and a process that resumes begins to count anew
        here = Path(self.swap) / run.place
        if run.place == "plain":
            engine = PlainEngine(unet, config, self.world)
        else:
            engine = DeepSpeedEngine(unet, build_swapping(config, here, self.world))
        division = Division(self.world.rank, self.world.world_size, config["train_micro_batch_size_per_gpu"], 1)
        identity = Identity(
            zero_stage=PLACES[run.place].get("stage"),
            precision="no",
            optimizer="AdamW",
            world_size=self.world.world_size,
            model=str(self.model.folder),
            resolution=32,
            seed=SEED,
            global_batch_size=PICTURES_A_STEP,
            pictures=len(self.dataset),
            optimizer_on="NVMe" if "nvme" in run.place else "GPU or host memory",
        )
        checkpoints = Checkpoints(Path(run.target), 10, identity, self.world, recorder)
        batches = Batches(
            self.dataset,
            seed=SEED,
            scaling_factor=self.model.vae_scaling_factor,
            timesteps=1000,
            device=self.world.device,
            dtype=torch.float32,
        )
        found = to_resume(Path(run.source).parent.parent, "latest") if run.source else None
        assert not found or str(found.path) == run.source
        done = checkpoints.resume(engine, found)
        averaged = EmaSettings(use_ema="nvme" not in run.place, ema_decay=0.7)
        average = ema.begin(engine, averaged, self.world, found, recorder)
        loop = Loop(
            engine,
            batches,
            self.model.noise_scheduler(),
            division,
            self.world,
            recorder,
            lambda: None,
            average=average,
        )
        loop.steps(done, run.last_step, save_every=10**9, save=lambda step: None)
        if run.target:
            checkpoints.save(engine, run.last_step, average=average)
        told = {key: [event[key] for event in recorder.named("step")] for key in ("step", "loss", "lr")}
        told["weights"] = _whole(engine)
        if average:
            with average.exchanged():
                told["average"] = _whole(engine)
        del engine, loop, unet, average
        gc.collect()
        for swapped in swap_folders(config, here).values():
            shutil.rmtree(swapped, ignore_errors=True)
        self.world.barrier()
        return told


def _whole(engine) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in engine.master_weights()}


def job_of(runs: list[Run], **places: str) -> dict:
    return {**places, "runs": [asdict(run) for run in runs]}


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    world = World.join()
    model = ModelSource(Path(job["model"]), Path(job["model"]) / "vae")
    training = TrainingSettings(data=DataSettings(resolution=32, cache_dir=job["cache"]))
    pictures = scan(Path(job["pictures"]), 32)
    dataset = caches.prepare(training, model, pictures, torch.float32, world, Report())
    trainer = Trainer(world, model, dataset, job["swap"])
    for run in (Run(**each) for each in job["runs"]):
        told = trainer.train(run)
        if world.is_main and run.told:
            torch.save(told, run.told)
    world.close()
