"""``python -m harness.extensions [nvme]``: compiles what training on the CPU takes, as a run's first launch does.

With ``nvme`` it is what NVMe offload takes too, a minute of two cores.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import torch

from harness.recorder import Recorder
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.train.distributed import World
from launcher.train.extensions import build_communication, build_optimizer, build_swapping

QUICK = """#!/bin/sh
exec {python} {quick} {folder} {compiler} "$@"
"""


def main() -> None:
    world = World(rank=0, world_size=1, device=torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        if compiler := shutil.which("c++"):
            # Under its own name: ninja would compile again what another command had made.
            quick = Path(folder) / "c++"
            made_by = {
                "python": sys.executable,
                "quick": Path(__file__).with_name("quick_compiler.py"),
                "folder": folder,
            }
            quick.write_text(QUICK.format(compiler=compiler, **made_by))
            quick.chmod(0o755)
            os.environ["PATH"] = os.pathsep.join([folder, os.environ["PATH"]])
        build_communication()
        for device in ("cpu", "none", *sys.argv[1:]):  # CPUAdam, and FusedAdam as it is on a CPU
            settings = DeepSpeedSettings(stage=3, offload_optimizer_device=device)
            config = to_deepspeed_json(settings, train_batch_size=1, learning_rate=1e-3, warmup_steps=1, total_steps=1)
            build_optimizer(config, world, Recorder())
            build_swapping(config, Path(folder), world)


if __name__ == "__main__":
    main()
