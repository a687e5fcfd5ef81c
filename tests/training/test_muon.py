"""Muon on the U-Net's matrices with Adam for the rest: it trains at every stage, and resumes to the bit."""

import pytest
import torch

from harness.tiny_zero import TINY
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.nested import with_overrides
from launcher.train.batches import Batches, Division
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.loop import Loop

STEPS, LATER = 3, 2
TORCH_ADAM = {"optimizer.params.torch_adam": True}
"""Beside Muon without offload, where DeepSpeed's own Adam is an extension of minutes; with offload it is there."""

PLACES = {
    "stage 1": {"stage": 1, "offload_optimizer_device": "none"},
    "stage 2 cpu": {"stage": 2, "precision": "bf16"},
    "stage 3 cpu": {"stage": 3, "precision": "bf16", "offload_param_device": "cpu"},
}


@pytest.fixture(autouse=True)
def uncompiled():
    """DeepSpeed compiles Muon's update for each shape, minutes on a CPU."""
    with torch.compiler.set_stance("force_eager"):
        yield


def config_of(**chosen) -> dict:
    chosen = {"precision": "no", "offload_optimizer_device": "cpu", "gradient_clipping": 0.0, **chosen}
    config = to_deepspeed_json(
        DeepSpeedSettings(
            optimizer_type="Muon", muon_lr=2e-2, stage3_max_reuse_distance=TINY["stage3_max_reuse_distance"], **chosen
        ),
        train_batch_size=2,
        learning_rate=1e-3,
        warmup_steps=1,
        total_steps=STEPS + LATER,
    )
    return with_overrides(config, TORCH_ADAM if chosen["offload_optimizer_device"] == "none" else {})


class Trained:
    """The tiny SDXL's U-Net under Muon."""

    def __init__(self, config, model, dataset, world, report, weight_decay_exclude="none") -> None:
        dtype = torch.bfloat16 if "bf16" in config else torch.float32
        self.unet = model.unet(dtype)
        self.engine = DeepSpeedEngine(self.unet, config, weight_decay_exclude)
        scheduler = model.noise_scheduler()
        batches = Batches(
            dataset,
            seed=0,
            scaling_factor=model.vae_scaling_factor,
            timesteps=scheduler.config.num_train_timesteps,
            device=world.device,
            dtype=dtype,
        )
        self.loop = Loop(self.engine, batches, scheduler, Division(0, 1, 2, 1), world, report, lambda: None)

    def steps(self, first: int, last: int) -> None:
        self.loop.steps(first, last, save_every=10**9, save=lambda step: None)

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: weight.detach().float().clone() for name, weight in self.engine.master_weights()}


@pytest.mark.parametrize("place", PLACES)
def test_it_trains_and_a_resumed_run_ends_with_the_same_bits(place, model, dataset, group, report, tmp_path):
    config = config_of(**PLACES[place])
    first = Trained(config, model, dataset, group, report)
    before = first.weights()
    matrices = {name for name, weight in before.items() if weight.ndim == 2 and "embed" not in name}
    assert {name for name, weight in first.unet.named_parameters() if weight.use_muon} == matrices
    first.steps(0, STEPS)
    first.engine.save(tmp_path)
    first.steps(STEPS, STEPS + LATER)
    after = first.weights()
    assert all(bool(torch.isfinite(weight).all()) and not weight.equal(before[name]) for name, weight in after.items())

    second = Trained(config, model, dataset, group, report)
    second.engine.load(tmp_path)
    second.steps(STEPS, STEPS + LATER)
    resumed = second.weights()
    assert all(weight.equal(resumed[name]) for name, weight in after.items())


def test_each_part_has_its_own_learning_rate(model, dataset, group, report):
    trained = Trained(config_of(**PLACES["stage 2 cpu"]), model, dataset, group, report)
    trained.steps(0, STEPS)
    groups = trained.engine._optimizer.param_groups
    assert [(group["name"], group["lr"]) for group in groups] == [("muon-params", 2e-2), ("adam-params", 1e-3)]


def test_norms_and_biases_may_be_left_undecayed(model, dataset, group, report, tmp_path):
    config = config_of(**PLACES["stage 3 cpu"], weight_decay=0.1)
    trained = Trained(config, model, dataset, group, report, "norms_and_biases")
    trained.steps(0, STEPS)
    groups = trained.engine._optimizer.optimizer.param_groups
    assert [(each["use_muon"], each["weight_decay"], each["lr"]) for each in groups] == [
        (True, 0.1, 2e-2),
        (False, 0.1, 1e-3),
        (False, 0.0, 1e-3),
    ]
    trained.engine.save(tmp_path)
    trained.steps(STEPS, STEPS + LATER)
    again = Trained(config, model, dataset, group, report, "norms_and_biases")
    again.engine.load(tmp_path)
    again.steps(STEPS, STEPS + LATER)
    resumed = again.weights()
    assert all(weight.equal(resumed[name]) for name, weight in trained.weights().items())
