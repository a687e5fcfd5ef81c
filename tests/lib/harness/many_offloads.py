"""``harness.rank harness.many_offloads JOB``: trains cases with both kinds of optimizers on several ranks.

JOB is a JSON file: by name ``cases``, arguments of :func:`harness.offloads.trained` (``theirs``: what is otherwise with
DeepSpeed's own), and ``resumes``, those of an engine. Rank 0 leaves ``NAME.pt`` with both results of a case beside it,
``resumed.json`` with which of the resumes ended with the same bits, and ``left.json`` with what then lies in /dev/shm.
"""

import json
import os
import sys
from pathlib import Path

import torch

from harness.offloads import new_engine, take_steps, trained
from harness.small_engines import masters
from launcher.train.distributed import World


def resumes(world: World, folder: Path, *, accumulation: int = 1, **settings) -> bool:
    """Whether a run that is continued after three steps ends as one that went on."""
    settings["gradient_accumulation_steps"] = accumulation
    straight, module = new_engine(**settings)
    take_steps(world, straight, module, 3, accumulation=accumulation)
    straight.save(folder)
    take_steps(world, straight, module, 2, first=3, accumulation=accumulation)
    resumed, module = new_engine(**settings)
    resumed.load(folder)
    take_steps(world, resumed, module, 2, first=3, accumulation=accumulation)
    one, other = masters(straight), masters(resumed)
    return all(torch.equal(master, other[name]) for name, master in one.items())


def main() -> None:
    path = Path(sys.argv[1])
    job = json.loads(path.read_text())
    torch.set_num_threads(1)
    world = World.join()
    for name, case in job["cases"].items():
        theirs = case.pop("theirs", {})
        both = [trained(world, **case), trained(world, ours=False, **{**case, **theirs})]
        if world.is_main:
            torch.save(both, path.parent / f"{name}.pt")
    same = {name: resumes(world, path.parent / name, **case) for name, case in job["resumes"].items()}
    if world.is_main:
        (path.parent / "resumed.json").write_text(json.dumps(same))
        left = [str(each) for each in Path("/dev/shm").glob(f"*_{os.environ['MASTER_PORT']}_*")]
        (path.parent / "left.json").write_text(json.dumps(left))
    world.close()
