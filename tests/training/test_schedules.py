"""The learning rate that each step tells is the one its update uses, and equals the schedule's formula."""

import math

import pytest
import torch

from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.plain_engine import PlainEngine

RATE, WARMUP, STEPS = 1e-2, 4, 10
COSINE_FLOOR = 1e-4
"""DeepSpeed's ``cos_min_ratio``."""


def log_warmup(index: int) -> float:
    return math.log(index + 1) / math.log(WARMUP)


def linear_warmup(index: int) -> float:
    return index / WARMUP


def decay(index: int) -> float:
    return max(0.0, (STEPS - index) / (STEPS - WARMUP))


def cosine(index: int) -> float:
    progress = min(1.0, (index - WARMUP + 1) / (STEPS - WARMUP))
    return COSINE_FLOOR + (1 - COSINE_FLOOR) * (1 + math.cos(math.pi * progress)) / 2


SCHEDULES = {
    ("WarmupLR", "log"): (log_warmup, lambda index: 1.0),
    ("WarmupLR", "linear"): (linear_warmup, lambda index: 1.0),
    ("WarmupDecayLR", "log"): (log_warmup, decay),
    ("WarmupDecayLR", "linear"): (linear_warmup, decay),
    ("WarmupCosineLR", "log"): (log_warmup, cosine),
}


class Weight(torch.nn.Module):
    """Weights whose gradients are 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(8))

    def forward(self, sample, timestep):
        return (self.weight * sample).sum()


@pytest.mark.parametrize("engine", [PlainEngine, DeepSpeedEngine])
@pytest.mark.parametrize(("schedule", "warmup"), SCHEDULES)
def test_each_steps_rate_is_the_formulas_and_the_updates(engine, schedule, warmup, group):
    settings = DeepSpeedSettings(
        stage=0,
        precision="no",
        offload_optimizer_device="none",
        gradient_clipping=0.0,
        weight_decay=0.0,
        scheduler_type=schedule,
        warmup_type=warmup,
    )
    config = to_deepspeed_json(settings, train_batch_size=1, learning_rate=RATE, warmup_steps=WARMUP, total_steps=STEPS)
    net = Weight()
    trained = PlainEngine(net, config, group) if engine is PlainEngine else DeepSpeedEngine(net, config)
    rising, falling = SCHEDULES[schedule, warmup]
    for step in range(STEPS + 2):
        index = max(0, step - 1)  # DeepSpeed begins to count after the first update
        expected = RATE * (rising(index) if index < WARMUP else falling(index))
        assert trained.learning_rate == pytest.approx(expected, rel=1e-6, abs=1e-12)
        before = net.weight.detach().clone()
        trained.backward(trained(torch.ones(8), torch.zeros(1)))
        trained.step()
        # Adam's update of a gradient that never changes is the learning rate.
        torch.testing.assert_close(before - net.weight.detach(), torch.full((8,), expected), rtol=1e-4, atol=1e-8)
