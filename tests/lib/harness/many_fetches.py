"""``harness.rank harness.many_fetches JOB``: watches weights come and go on several ranks, with both kinds of fetching.

JOB is a JSON file: by name arguments of :func:`harness.fetches.watched`. Every rank leaves ``RANK.json`` beside it, by
name what was seen with the launcher's fetching and with DeepSpeed's own.
"""

import json
import sys
from pathlib import Path

import torch

from harness.fetches import watched
from launcher.train.distributed import World


def main() -> None:
    path = Path(sys.argv[1])
    torch.set_num_threads(1)
    world = World.join()
    told = {
        name: [watched(world, deepspeeds=each, **case) for each in (False, True)]
        for name, case in json.loads(path.read_text()).items()
    }
    path.with_name(f"{world.rank}.json").write_text(json.dumps(told))
    world.close()


if __name__ == "__main__":
    main()
