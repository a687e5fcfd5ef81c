"""A small module in the hands of any engine, for what needs no U-Net: seconds instead of minutes."""

import tempfile

import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.zero.partition_parameters import Init

from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.nested import with_overrides
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.plain_engine import PlainEngine

WIDTH = 600
"""Its larger weights take more than the MiB below which nothing is swapped."""
CPU = {"offload_optimizer_device": "cpu"}
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Small(torch.nn.Sequential):
    """Called as the U-Net is; its parameters are two of stage 3's groups."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(torch.nn.Linear(WIDTH, WIDTH), torch.nn.SiLU(), torch.nn.Linear(WIDTH, 7))

    def forward(self, sample, timestep):
        return super().forward(sample * timestep)


def new_engine(world, stage, precision="no", overrides=None, swap=None, exclude="none", **settings):
    """An engine of a stage, None for plain PyTorch; ``swap`` is below what NVMe offload swaps to."""
    if settings.get("offload_optimizer_device") == "nvme":
        # A folder of its own: two engines are alive at once and name their files alike.
        settings["offload_optimizer_nvme_path"] = tempfile.mkdtemp(dir=swap)
    chosen = DeepSpeedSettings(
        **{"offload_optimizer_device": "none", **settings},
        stage=stage or 0,
        precision=precision,
        sub_group_size=300_000,
    )
    config = to_deepspeed_json(chosen, train_batch_size=2, learning_rate=1e-2, warmup_steps=3, total_steps=9)
    config = with_overrides(config, overrides or {})
    Init.param_id = 0  # swapped files are named by it, and a process that resumes begins to count anew
    unet = Small().to(DTYPES[precision])
    return PlainEngine(unet, config, world, exclude) if stage is None else DeepSpeedEngine(unet, config, exclude)


def train(engine, steps: int, dtype=torch.float32, first: int = 0, average=None) -> list[float]:
    """Steps as the loop takes them, from the one after ``first``; their batches follow from their numbers.

    Returns each step's loss.
    """
    losses, device = [], get_accelerator().current_device_name()
    for step in range(first, first + steps):
        batch = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(step)).to(device, dtype)
        loss = engine(batch, torch.ones((), device=device, dtype=dtype)).float().square().mean()
        losses.append(loss.item())
        engine.backward(loss)
        if average:
            average.wait()
        engine.step()
        if average:
            average.update(step + 1)
    return losses


def masters(engine) -> dict[str, torch.Tensor]:
    """The fp32 masters by name, whole."""
    return {name: tensor.clone() for name, tensor in engine.master_weights()}


def averages(engine, average) -> dict[str, torch.Tensor]:
    """The moving average by name, whole."""
    with average.exchanged():
        return masters(engine)


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The norm of the difference of all."""
    assert one.keys() == other.keys()
    return float(torch.stack([(tensor - other[name]).norm() for name, tensor in one.items()]).norm())


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """To the bit."""
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name
