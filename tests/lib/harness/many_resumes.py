"""``harness.rank harness.many_resumes JOB``: trains DeepSpeed configurations straight through and with a resume.

JOB is a JSON file: model folder, pictures, cache, resolution, seed and cases by name, each with its steps, a DeepSpeed
configuration, its precision, what does not decay and the settings of a LoRA, if it trains one. Beside it, for each:
``NAME/straight`` and ``NAME/resumed`` with the checkpoints, ``NAME/told.json`` with what each step told and the
digest of every batch.
"""

import gc
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

import torch
from deepspeed.runtime.zero.partition_parameters import Init

from harness.data import scan
from harness.recorder import Recorder
from launcher.config.training import AdapterSettings, DataSettings, TrainingSettings
from launcher.runs.checkpoints import Identity
from launcher.runs.swap import swap_folders
from launcher.train import caches
from launcher.train.batches import Batches, Division
from launcher.train.checkpoint import Checkpoints
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.distributed import World
from launcher.train.extensions import build_swapping
from launcher.train.loading import DTYPES
from launcher.train.loop import Loop
from launcher.train.lora import add_adapter
from launcher.train.models import ModelSource
from launcher.train.report import Report

TOLD = ("step", "loss", "lr", "grad_norm")
"""What a step tells that may not depend on when it ran."""


class RecordedBatches(Batches):
    """Leaves a digest of every batch: pictures, noise, timesteps and conditioning."""

    digests: list[str]

    def run(self, division, first_step, last_step):
        for batch in super().run(division, first_step, last_step):
            digest = hashlib.sha256()
            values = (getattr(batch, name) for name in batch.__slots__)
            for tensor in (value for value in values if isinstance(value, torch.Tensor)):
                digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
            self.digests.append(digest.hexdigest())
            yield batch


class Case:
    """One configuration on one data set."""

    def __init__(self, job, world, model, dataset, precision, config, lora, weight_decay_exclude) -> None:
        self.world, self.model, self.config = world, model, config
        self.lora, self.seed = AdapterSettings(**lora), job["seed"]
        self.dtype = DTYPES[precision]
        self.division = Division(
            world.rank,
            world.world_size,
            config["train_micro_batch_size_per_gpu"],
            config["gradient_accumulation_steps"],
        )
        self.scheduler = model.noise_scheduler()
        self.batches = RecordedBatches(
            dataset,
            seed=job["seed"],
            scaling_factor=model.vae_scaling_factor,
            timesteps=self.scheduler.config.num_train_timesteps,
            device=world.device,
            dtype=self.dtype,
        )
        self.identity = Identity(
            zero_stage=config.get("zero_optimization", {}).get("stage", 0),
            precision=precision,
            optimizer=config["optimizer"]["type"],
            world_size=world.world_size,
            model=job["model"],
            resolution=job["resolution"],
            seed=job["seed"],
            global_batch_size=self.division.global_batch_size,
            pictures=len(dataset),
            weight_decay_exclude=weight_decay_exclude,
        )

    def train(self, folder: Path, last_step: int) -> dict:
        """From the newest checkpoint in the folder, if there is one, to the last step, which is saved."""
        recorder = Recorder()
        self.batches.digests = []
        for swapped in swap_folders(self.config, folder).values():  # as each launch of a run begins
            shutil.rmtree(swapped, ignore_errors=True)
        Init.param_id = 0  # swapped files are named by it, and a process that resumes begins to count anew
        unet = self.model.unet(self.dtype)
        if self.lora.is_lora:
            add_adapter(unet, self.lora, self.seed)
        config = build_swapping(self.config, folder, self.world)
        engine = DeepSpeedEngine(unet, config, self.identity.weight_decay_exclude)
        checkpoints = Checkpoints(folder, 10, self.identity, self.world, recorder)
        done = checkpoints.resume(engine, checkpoints.find())
        loop = Loop(engine, self.batches, self.scheduler, self.division, self.world, recorder, lambda: None)
        loop.steps(done, last_step, save_every=10**9, save=lambda step: checkpoints.save(engine, step))
        steps = [{key: event[key] for key in TOLD} for event in recorder.named("step")]
        return {"from": done, "steps": steps, "batches": self.batches.digests}


def main() -> None:
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    world = World.join()
    model = ModelSource(Path(job["model"]), Path(job["model"]) / "vae")
    training = TrainingSettings(data=DataSettings(resolution=job["resolution"], cache_dir=job["cache"]))
    pictures = scan(Path(job["pictures"]), job["resolution"])
    datasets = {
        precision: caches.prepare(training, model, pictures, DTYPES[precision], world, Report())
        for precision in {case["precision"] for case in job["cases"].values()}
    }
    for name, case in job["cases"].items():
        folder = path.parent / name
        precision = case["precision"]
        lora, exclude = case.get("lora", {}), case["weight_decay_exclude"]
        trained = Case(job, world, model, datasets[precision], precision, case["config"], lora, exclude)
        told = {}
        for part, place, last_step in (
            ("straight", "straight", case["steps"]),
            ("first", "resumed", case["steps"] // 2),
            ("second", "resumed", case["steps"]),
        ):
            told[part] = trained.train(folder / place, last_step)
            gc.collect()
        if world.is_main:
            (folder / "told.json").write_text(json.dumps(told))
            print(name, flush=True)
    world.close()
