"""``python -m benchmarks.training.preparing ...``: all that runs share is made once, in a process of its own.

DeepSpeed's extensions, latents and prompt embeddings in the launcher's own caches, and the batches that its loop will
draw from them, for engines without it: lists of ``benchmarks.plain_loop.Batch``, a file for each rank.
"""

import argparse
import json
from itertools import islice
from pathlib import Path

import torch

from benchmarks.answers import settings_of
from benchmarks.plain_loop import begin
from launcher.train import caches
from launcher.train.batches import Batch, Batches, Division
from launcher.train.dataset import find_pictures
from launcher.train.distributed import World
from launcher.train.extensions import build_optimizer
from launcher.train.loading import DTYPES
from launcher.train.models import resolve_model
from launcher.train.objective import require_schedule
from launcher.train.report import Report


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--wanted", type=Path, required=True, help="JSON: answers by the file that gets their batches")
    made.add_argument("--events", type=Path, required=True)
    chosen = made.parse_args()
    device, report = begin(chosen.events)
    world = World(rank=0, world_size=1, device=device)
    for file, answers in json.loads(chosen.wanted.read_text()).items():
        prepare(Path(file), answers, world, report)


def prepare(file: Path, answers: dict, world: World, report: Report) -> None:
    """What is missing for these answers; ``file-RANK.pt`` is written last."""
    settings = settings_of(answers)
    training, config = settings.training, settings.deepspeed_json()
    with report.phase("compile"):
        build_optimizer(config, world, report)
    ranks, accumulation = settings.launch.num_processes, config["gradient_accumulation_steps"]
    last = file.with_name(f"{file.name}-{ranks - 1}.pt")
    if last.exists():
        return
    batch, steps = training.optimization.train_batch_size, training.optimization.max_train_steps
    pictures = find_pictures(training, batch * accumulation * ranks, world, report)
    model = resolve_model(training, world, report)
    scheduler, dtype = require_schedule(model, report), DTYPES[settings.deepspeed.precision]
    dataset = caches.prepare(training, model, pictures, dtype, world, report)
    assert dataset is not None
    batches = Batches(
        dataset,
        seed=training.optimization.seed,
        scaling_factor=model.vae_scaling_factor,
        timesteps=scheduler.config.num_train_timesteps,
        device=torch.device("cpu"),
        dtype=dtype,
    )

    def plain(drawn: Batch) -> dict[str, torch.Tensor]:
        return {
            "sample": scheduler.add_noise(drawn.latents, drawn.noise, drawn.timesteps).to(dtype),
            "timestep": drawn.timesteps,
            "encoder_hidden_states": drawn.prompt_embeds,
            "text_embeds": drawn.pooled,
            "time_ids": drawn.time_ids,
            "target": drawn.noise,
        }

    file.parent.mkdir(parents=True, exist_ok=True)
    for rank in range(ranks):
        drawn = batches.run(Division(rank, ranks, batch, accumulation), 0, steps)
        torch.save(list(map(plain, islice(drawn, steps * accumulation))), file.with_name(f"{file.name}-{rank}.pt"))


if __name__ == "__main__":
    main()
