"""``python -m benchmarks.training.bare RUN_DIR --batches ... --events ...``: the run's own engine without the loop around it.

Started by the command line that the run was started with, ``launcher.train`` alone replaced: the same deepspeed.json, the
same loading, the same weights. Batches lie ready on the device; nothing is told, saved or looked at between steps.
"""

import argparse
from pathlib import Path

from benchmarks.plain_loop import begin, load_batches, train
from launcher.runs.checkpoints import identity, precision
from launcher.runs.directory import RunDirectory
from launcher.train.attention import verify_attention
from launcher.train.distributed import World
from launcher.train.extensions import build_optimizer
from launcher.train.loading import DTYPES, load_engine
from launcher.train.models import resolve_model


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("run", type=Path, help="a run directory")
    made.add_argument("--batches", type=Path, required=True)
    made.add_argument("--events", type=Path, required=True)
    chosen = made.parse_args()
    run = RunDirectory(chosen.run.resolve())
    training, config = run.training(), run.deepspeed()
    device, report = begin(chosen.events)
    with report.phase("join"):
        world = World.join()
    who = identity(config, training, deepspeed=run.uses_deepspeed(), world_size=world.world_size, pictures=())
    if run.uses_deepspeed():
        config = build_optimizer(config, world, report)
    model = resolve_model(training, world, report)
    attention = verify_attention(training.runtime.attention_mechanism, world.device, DTYPES[precision(config)], report)
    engine = load_engine(run, model, who, config, attention, world, report)
    batches = [
        {name: tensor.to(world.device) for name, tensor in batch.items()} for batch in load_batches(chosen.batches)
    ]
    train(engine, batches, config["gradient_accumulation_steps"], device, report)
    world.close()


if __name__ == "__main__":
    main()
