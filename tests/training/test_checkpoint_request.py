"""A checkpoint that somebody asks for while it trains: one more, at the next boundary, and nothing else changes."""

from dataclasses import replace

import pytest
import torch

from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.runs.checkpoint_request import checkpoint_requested, request_checkpoint
from launcher.runs.checkpoints import Identity
from launcher.runs.directory import create
from launcher.runs.state import RunStatus, Status
from launcher.train.batches import Batches, Division
from launcher.train.checkpoint import Checkpoints
from launcher.train.loop import Loop
from launcher.train.plain_engine import PlainEngine

STEPS, SAVE_EVERY = 8, 4
GOES = RunStatus(Status.RUNNING, {"phase": "train"})
TOLD = ("step", "loss", "lr", "grad_norm")


@pytest.fixture
def train(model, dataset, alone, tmp_path, report):
    """Trains from the start; ``asking`` is called in each save, which is when a person has seconds to ask in."""

    def train(name, before_step=(), asking=lambda run, step: None):
        run = create(tmp_path / name, {"plan.json": b"{}"})
        chosen = DeepSpeedSettings(stage=0, offload_optimizer_device="none", precision="no")
        config = to_deepspeed_json(chosen, train_batch_size=2, learning_rate=1e-3, warmup_steps=1, total_steps=STEPS)
        torch.manual_seed(0)
        engine = PlainEngine(model.unet(torch.float32), config, alone)
        batches = Batches(
            dataset, seed=2, scaling_factor=model.vae_scaling_factor, timesteps=1000, device=alone.device,
            dtype=torch.float32,
        )  # fmt: skip
        identity = Identity(None, "no", "AdamW", 1, "demo", 32, 2, 2, len(dataset))
        checkpoints = Checkpoints(run.path, 2, identity, alone, report)

        def stop_reason():
            if len(report.named("step")) + 1 in before_step:
                request_checkpoint(run, GOES)
                request_checkpoint(run, GOES)

        def save(step):
            checkpoints.save(engine, step)
            asking(run, step)

        report.events.clear()
        loop = Loop(engine, batches, model.noise_scheduler(), Division(0, 1, 2, 1), alone, report, stop_reason)
        replace(loop, asked_in=run).steps(0, STEPS, save_every=SAVE_EVERY, save=save)
        assert not checkpoint_requested(run)
        steps = [tuple(event[key] for key in TOLD) for event in report.named("step")]
        return steps, report.named("checkpoint"), dict(engine.master_weights()), run

    return train


def test_each_request_is_one_more_checkpoint_and_the_training_is_the_same_bit_for_bit(train):
    steps, saved, weights, run = train("asked", before_step=(2, 3, 4))  # the last is due at that step anyway
    as_always, scheduled, unasked, _ = train("unasked")
    assert [event["step"] for event in scheduled] == [4, 8]
    assert [(event["step"], event["removed"]) for event in saved] == [
        (2, []),
        (3, []),
        (4, ["checkpoint-2"]),
        (8, ["checkpoint-3"]),
    ]
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == ["checkpoint-4", "checkpoint-8"]
    assert steps == as_always
    assert all(torch.equal(weight, unasked[name]) for name, weight in weights.items())


def test_a_request_while_it_saves_is_answered_by_that_save(train):
    _, saved, _, _ = train("saving", before_step=(2,), asking=lambda run, step: request_checkpoint(run, GOES))
    assert [event["step"] for event in saved] == [2, 4, 8]
