"""``harness.rank harness.many_fetches JOB``: watches weights come and go on several ranks, with both kinds of fetching.

JOB is a JSON file: by name arguments of :func:`harness.fetches.watched`. Every rank leaves ``RANK.json`` beside it, by
name for the launcher's fetching and for DeepSpeed's own what was seen, and how many weights were gathered one by one.
"""

import json
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from deepspeed.runtime.zero.partition_parameters import Init

from harness.fetches import watched
from launcher.train.distributed import World


def watched_and_counted(world, **case):
    gathered = []

    def counting(init, params, *given, **how):
        gathered.extend(params)
        return gathers(init, params, *given, **how)

    gathers = Init._allgather_params_coalesced
    with patch.object(Init, "_allgather_params_coalesced", counting):
        seen = watched(world, **case)
    return [seen, len(gathered)]


def main() -> None:
    path = Path(sys.argv[1])
    torch.set_num_threads(1)
    world = World.join()
    told = {
        name: [watched_and_counted(world, deepspeeds=each, **case) for each in (False, True)]
        for name, case in json.loads(path.read_text()).items()
    }
    path.with_name(f"{world.rank}.json").write_text(json.dumps(told))
    world.close()


if __name__ == "__main__":
    main()
