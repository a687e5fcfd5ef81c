"""The numbers of plain PyTorch in half precision: each update written out, and what an overflow must leave alone."""

import pytest
import torch

from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.train.plain_engine import STATE, PlainEngine

WIDTH, BATCH = 24, 8
LEARNING_RATE, WARMUP, CLIPPING, WEIGHT_DECAY = 1e-2, 3, 1e-3, 0.1
BETAS, EPS = (0.9, 0.99), 1e-6
LOSS_SCALE = 2.0**16
"""What torch's GradScaler begins with."""


class Small(torch.nn.Sequential):
    """Called as the U-Net is."""

    def __init__(self, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        super().__init__(torch.nn.Linear(WIDTH, WIDTH), torch.nn.SiLU(), torch.nn.Linear(WIDTH, WIDTH))
        self.to(dtype)

    def forward(self, sample, timestep):
        return super().forward(sample * timestep)


def new_engine(world, precision: str, dtype: torch.dtype, accumulation: int = 1, **settings) -> PlainEngine:
    chosen = DeepSpeedSettings(
        stage=0,
        precision=precision,
        gradient_accumulation_steps=accumulation,
        gradient_clipping=CLIPPING,
        offload_optimizer_device="none",
        betas=BETAS,
        eps=EPS,
        weight_decay=WEIGHT_DECAY,
        warmup_type="linear",
        **settings,
    )
    config = to_deepspeed_json(
        chosen, train_batch_size=BATCH, learning_rate=LEARNING_RATE, warmup_steps=WARMUP, total_steps=9
    )
    return PlainEngine(Small(dtype), config, world)


def batches(count: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(BATCH, WIDTH, generator=generator).to(dtype) for _ in range(count)]


def loss_of(net, batch: torch.Tensor) -> torch.Tensor:
    return net(batch, torch.ones((), dtype=batch.dtype)).float().square().mean() / 100


def rate(updates: int) -> float:
    """After so many updates; the schedule begins to count after the first."""
    return LEARNING_RATE * min(1.0, max(0, updates - 1) / WARMUP)


class WrittenOut:
    """fp32 masters, gradients in half precision, and AdamW by its formulas."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.net, self.updates = Small(dtype), 0
        self.masters = [weight.detach().float() for weight in self.net.parameters()]
        self.first = [torch.zeros_like(master) for master in self.masters]
        self.second = [torch.zeros_like(master) for master in self.masters]

    def step(self, micro_batches: list[torch.Tensor], scale: float = 1.0) -> float:
        """One update; returns the norm of its gradient before clipping."""
        weights, sums = list(self.net.parameters()), None
        for batch in micro_batches:
            loss = loss_of(self.net, batch) / len(micro_batches) * scale
            found = torch.autograd.grad(loss, weights)
            sums = found if sums is None else [one + other for one, other in zip(sums, found, strict=True)]
        gradients = [gradient.float() / scale for gradient in sums]
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        lr = rate(self.updates)
        self.updates += 1
        for index, gradient in enumerate(gradients):
            clipped = gradient * min(1.0, float(CLIPPING / (norm + 1e-6)))
            self.first[index].lerp_(clipped, 1 - BETAS[0])
            self.second[index].mul_(BETAS[1]).add_(clipped.square(), alpha=1 - BETAS[1])
            mean = self.first[index] / (1 - BETAS[0] ** self.updates)
            spread = (self.second[index] / (1 - BETAS[1] ** self.updates)).sqrt()
            self.masters[index] -= lr * (WEIGHT_DECAY * self.masters[index] + mean / (spread + EPS))
        with torch.no_grad():
            for weight, master in zip(weights, self.masters, strict=True):
                weight.copy_(master)
        return float(norm)


def train(engine: PlainEngine, micro_batches: list[torch.Tensor]) -> None:
    for batch in micro_batches:
        engine.backward(loss_of(engine, batch))
        engine.step()


def assert_same_masters(engine: PlainEngine, reference: WrittenOut) -> None:
    for (name, mine), theirs in zip(engine.master_weights(), reference.masters, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}")


def test_bf16_adds_up_four_micro_batches_and_updates_fp32_masters(alone):
    engine, reference = new_engine(alone, "bf16", torch.bfloat16, accumulation=4), WrittenOut(torch.bfloat16)
    norms = []
    data = batches(4 * 6, torch.bfloat16)
    for step in range(6):
        assert engine.learning_rate == pytest.approx(rate(step))
        train(engine, data[4 * step : 4 * step + 4])
        norms.append(reference.step(data[4 * step : 4 * step + 4]))
        assert engine.gradient_norm == pytest.approx(norms[-1], rel=1e-5)
        assert_same_masters(engine, reference)
    assert min(norms) < CLIPPING < max(norms)
    moved = [
        master - weight.detach() for master, weight in zip(reference.masters, reference.net.parameters(), strict=True)
    ]
    assert any(distance.any() for distance in moved)  # masters hold what bf16 cannot


def saved(engine: PlainEngine, folder) -> dict:
    engine.save(folder)
    return torch.load(folder / STATE)


def test_an_overflow_in_fp16_halves_the_scale_and_changes_nothing_else(alone, tmp_path):
    engine, reference = new_engine(alone, "fp16", torch.float16), WrittenOut(torch.float16)
    first, second, *later = batches(5, torch.float16)
    for batch in (first, second):
        train(engine, [batch])
        reference.step([batch], LOSS_SCALE)
    assert_same_masters(engine, reference)
    before = saved(engine, tmp_path)
    weights, lr = {name: value.clone() for name, value in engine.master_weights()}, engine.learning_rate

    train(engine, [later[0] * 1000])
    after = saved(engine, tmp_path)
    assert before["scaler"]["scale"] == LOSS_SCALE
    assert after["scaler"]["scale"] == LOSS_SCALE / 2
    assert all(torch.equal(value, weights[name]) for name, value in engine.master_weights())
    moments, kept = (state["optimizer"]["state"] for state in (before, after))
    assert moments.keys() == kept.keys()
    for index, held in moments.items():
        assert held.keys() == kept[index].keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(value, kept[index][name]) for name, value in held.items())
    assert after["schedule"] == before["schedule"]
    assert engine.learning_rate == lr

    for batch in later[1:]:
        train(engine, [batch])
        reference.step([batch], LOSS_SCALE / 2)
    assert_same_masters(engine, reference)


def test_adagrad_is_deepspeeds_without_offload(alone):
    engine = new_engine(alone, "no", torch.float32, optimizer_type="Adagrad")
    net = Small(torch.float32)
    sums = [torch.zeros_like(weight) for weight in net.parameters()]
    for step, batch in enumerate(batches(4, torch.float32)):
        train(engine, [batch])
        gradients = torch.autograd.grad(loss_of(net, batch), list(net.parameters()))
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        with torch.no_grad():
            for weight, gradient, held in zip(net.parameters(), gradients, sums, strict=True):
                whole = gradient * min(1.0, float(CLIPPING / (norm + 1e-6))) + WEIGHT_DECAY * weight
                held.add_(whole.square())
                weight.sub_(rate(step) * whole / (held.sqrt() + EPS))
    for (_, mine), theirs in zip(engine.master_weights(), net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-5, atol=1e-7)
