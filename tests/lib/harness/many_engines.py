"""``harness.rank harness.many_engines JOB``: trains many DeepSpeed configurations in one process, of several ranks.

JOB is a JSON file: model folder, pictures, cache, the settings of a LoRA, what does not decay, and by name steps and
cases, each a DeepSpeed configuration; where the name has ``lora`` in it, the LoRA is trained, and where it has
``whole-blocks``, activations are recomputed. Rank 0 leaves ``NAME.pt`` with the losses, learning rates, gradient norms
and final fp32 weights of each case beside it, and ``NAME-lora`` with an exported LoRA.
"""

import gc
import json
import os
import sys
from pathlib import Path

import torch
from peft import get_peft_model_state_dict

from harness.data import scan
from launcher.config.training import AdapterSettings, DataSettings, ExportSettings, TrainingSettings
from launcher.train import caches
from launcher.train.activations import checkpoint_activations
from launcher.train.batches import Batches, Division
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.distributed import World
from launcher.train.loop import Loop
from launcher.train.lora import add_adapter, export_adapter
from launcher.train.models import ModelSource
from launcher.train.plain_engine import PlainEngine
from launcher.train.report import Report


class Recorder(Report):
    """Keeps the step events."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = []

    def event(self, name, **fields):
        if name == "step":
            self.steps.append(fields)


def main() -> None:
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    world = World.join()
    model = ModelSource(Path(job["model"]), Path(job["model"]) / "vae")
    training = TrainingSettings(data=DataSettings(resolution=job["resolution"], cache_dir=job["cache"]))
    pictures = scan(Path(job["pictures"]), job["resolution"])
    dataset = caches.prepare(training, model, pictures, torch.float32, world, Report())
    scheduler = model.noise_scheduler()
    batches = Batches(
        dataset,
        seed=job["seed"],
        scaling_factor=model.vae_scaling_factor,
        timesteps=scheduler.config.num_train_timesteps,
        device=world.device,
        dtype=torch.float32,
    )
    lora = TrainingSettings(adapter=AdapterSettings(**job["lora"]), export=ExportSettings(export_dtype="fp32"))
    for name, config in job["cases"].items():
        unet = model.unet(torch.float32)
        if "lora" in name:
            add_adapter(unet, lora.adapter, job["seed"])
        if "whole-blocks" in name:  # their weights are fetched again where activations are recomputed
            checkpoint_activations(unet, "all")
        exclude = job.get("weight_decay_exclude", "none")
        engine = (
            PlainEngine(unet, config, world, exclude)
            if name.startswith("plain")
            else DeepSpeedEngine(unet, config, exclude)
        )
        recorder = Recorder()
        division = Division(
            world.rank,
            world.world_size,
            config["train_micro_batch_size_per_gpu"],
            config["gradient_accumulation_steps"],
        )
        loop = Loop(engine, batches, scheduler, division, world, recorder, lambda: None)
        loop.steps(0, job["steps"][name], save_every=10**9, save=lambda step: None)
        weights = {key: value.detach().float().cpu().clone() for key, value in engine.master_weights()}
        held = 0
        if "lora" in name:
            held = sum(tensor.numel() for tensor in get_peft_model_state_dict(unet).values())
            export_adapter(engine, lora, path.parent / f"{name}-lora", world, report=Report())
        if world.is_main:
            told = {key: [step[key] for step in recorder.steps] for key in ("loss", "lr", "grad_norm")}
            torch.save({**told, "weights": weights, "held by the model": held}, path.parent / f"{name}.pt")
            print(name, told["loss"][-1], flush=True)
        del engine, loop, unet
        gc.collect()
        world.barrier()
    world.close()
