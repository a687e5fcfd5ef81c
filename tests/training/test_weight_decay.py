"""Norms and biases without weight decay, under every engine: what a plain PyTorch AdamW loop with two groups trains."""

import pytest
import torch

from harness.tiny_zero import TINY
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.train.batches import Batches, Division
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.groups import decay_groups
from launcher.train.loop import Loop
from launcher.train.objective import diffusion_loss
from launcher.train.plain_engine import PlainEngine

STEPS, LEARNING_RATE, WEIGHT_DECAY = 4, 1e-2, 0.5
PLACES = {
    "plain": {"stage": 0},
    "zero0": {"stage": 0},
    "zero1": {"stage": 1},
    "zero2-cpu": {"stage": 2, "offload_optimizer_device": "cpu"},
    "zero3": {"stage": 3},
    "zero3-cpu-params": {"stage": 3, "offload_optimizer_device": "cpu", "offload_param_device": "cpu"},
}


def batches_of(model, dataset) -> Batches:
    return Batches(
        dataset,
        seed=4,
        scaling_factor=model.vae_scaling_factor,
        timesteps=1000,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


@pytest.fixture(scope="module")
def reference(model, dataset):
    unet = model.unet(torch.float32)
    start = {name: weight.detach().clone() for name, weight in unet.named_parameters()}
    groups = [
        {"params": [weight for weight in unet.parameters() if weight.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [weight for weight in unet.parameters() if weight.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.999), eps=1e-8)
    rates = []
    for step, batch in enumerate(batches_of(model, dataset).run(Division(0, 1, 4, 1), 0, STEPS)):
        rates.append(LEARNING_RATE * min(1.0, max(0, step - 1) / 2))  # DeepSpeed counts from the first update on
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        optimizer.zero_grad()
        diffusion_loss(unet, model.noise_scheduler(), batch).backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
    end = {name: weight.detach() for name, weight in unet.named_parameters()}
    moved = torch.stack([(weight - start[name]).norm() for name, weight in end.items()]).norm()
    return end, rates, float(moved)


IN_CI = ("plain", "zero1", "zero2-cpu", "zero3-cpu-params")
CASES = [pytest.param(place, marks=[] if place in IN_CI else [pytest.mark.exhaustive]) for place in PLACES]


@pytest.mark.parametrize("place", CASES)
def test_it_trains_what_plain_pytorch_trains_with_the_same_groups(place, model, dataset, group, report, reference):
    settings = DeepSpeedSettings(
        **{"offload_optimizer_device": "none", **PLACES[place]},
        precision="no",
        warmup_type="linear",
        weight_decay=WEIGHT_DECAY,
        **TINY,
    )
    config = to_deepspeed_json(
        settings, train_batch_size=4, learning_rate=LEARNING_RATE, warmup_steps=1, total_steps=STEPS
    )
    unet, exclude = model.unet(torch.float32), "norms_and_biases"
    engine = PlainEngine(unet, config, group, exclude) if place == "plain" else DeepSpeedEngine(unet, config, exclude)
    loop = Loop(
        engine,
        batches_of(model, dataset),
        model.noise_scheduler(),
        Division(0, 1, 4, 1),
        group,
        report,
        lambda: None,
    )
    loop.steps(0, STEPS, save_every=9, save=lambda step: None)
    weights, rates, moved = reference
    assert [step["lr"] for step in report.named("step")] == pytest.approx(rates, rel=1e-6)
    assert len(engine._optimizer.param_groups) == 2
    assert len({group["lr"] for group in engine._optimizer.param_groups}) == 1
    trained = dict(engine.master_weights())
    apart = torch.stack([(trained[name] - weight).norm() for name, weight in weights.items()])
    assert float(apart.norm()) < 1e-4 * moved


def test_a_model_without_norms_and_biases_is_one_group():
    matrices = [torch.zeros(2, 2), torch.zeros(3, 2)]
    (only,) = decay_groups(matrices, "norms_and_biases")
    assert only["params"] == matrices
    assert decay_groups(matrices, "none") == matrices
