"""``python -m harness.extensions``: compiles what training on the CPU takes, as a run's first launch does."""

import torch

from harness.recorder import Recorder
from launcher.config.deepspeed import DeepSpeedSettings, to_deepspeed_json
from launcher.train.distributed import World
from launcher.train.extensions import build_communication, build_optimizer


def main() -> None:
    build_communication()
    for device in ("cpu", "none"):  # CPUAdam, and FusedAdam as it is on a CPU
        settings = DeepSpeedSettings(offload_optimizer_device=device)
        config = to_deepspeed_json(settings, train_batch_size=1, learning_rate=1e-3, warmup_steps=1, total_steps=1)
        build_optimizer(config, World(rank=0, world_size=1, device=torch.device("cpu")), Recorder())


if __name__ == "__main__":
    main()
