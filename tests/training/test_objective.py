"""What is learnt equals what was published: formulas written out in double precision, draws by their statistics."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionXLPipeline

from launcher.config.training import ObjectiveSettings
from launcher.errors import InvalidInputError
from launcher.train.batches import Batch, Batches, Division
from launcher.train.models import ModelSource
from launcher.train.objective import diffusion_loss, require_schedule

SHAPE = (4, 8, 8)
TWO_STEPS = {"num_train_timesteps": 2, "trained_betas": [0.2, 0.5]}
"""Of the picture 0.8 is kept at timestep 0 and 0.8 * 0.5 = 0.4 at 1: an SNR of 4 and of 2/3."""


class Recording:
    """In the U-Net's place: predicts what it was given to predict, and keeps what it saw."""

    def __init__(self, prediction: torch.Tensor) -> None:
        self.prediction = prediction

    def __call__(self, sample, timestep, **conditioning):
        self.saw = sample
        return (self.prediction,)


def drawn(*names: str, pictures: int = 2) -> list[torch.Tensor]:
    return [torch.randn(pictures, *SHAPE, generator=torch.Generator().manual_seed(len(name))) for name in names]


def batch_of(latents, noise, timesteps=(0, 1), perturbation=None) -> Batch:
    rest = torch.zeros(len(latents), 1)
    return Batch(latents, noise, torch.tensor(timesteps), rest, rest, rest, (), perturbation)


def kept(schedule: DDPMScheduler, timesteps=(0, 1)) -> torch.Tensor:
    """How much of the picture is left, in double precision."""
    betas = torch.tensor(schedule.config.trained_betas, dtype=torch.float64)
    return torch.cumprod(1 - betas, dim=0)[list(timesteps)].view(-1, 1, 1, 1)


def test_noise_by_default_and_not_a_bit_otherwise():
    latents, noise, prediction = drawn("latents", "noise", "prediction")
    schedule = DDPMScheduler(**TWO_STEPS)
    unet = Recording(prediction)
    loss = diffusion_loss(unet, schedule, batch_of(latents, noise))
    assert torch.equal(loss, torch.nn.functional.mse_loss(prediction, noise))
    share = kept(schedule)
    seen = share.sqrt() * latents.double() + (1 - share).sqrt() * noise.double()
    torch.testing.assert_close(unet.saw.double(), seen, rtol=1e-6, atol=1e-6)


def test_velocity_is_of_salimans_and_ho():
    """v is sqrt(ā) ε - sqrt(1 - ā) x: of a picture of ones and no noise it is -sqrt(0.2) at timestep 0."""
    latents, noise, prediction = drawn("latents", "noise", "prediction")
    schedule = DDPMScheduler(**TWO_STEPS, prediction_type="v_prediction")
    share = kept(schedule)
    velocity = share.sqrt() * noise.double() - (1 - share).sqrt() * latents.double()
    by_hand = (prediction.double() - velocity).square().mean()
    loss = diffusion_loss(Recording(prediction), schedule, batch_of(latents, noise))
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-6)
    ones, nothing = torch.ones(1, *SHAPE), torch.zeros(1, *SHAPE)
    assert float(diffusion_loss(Recording(nothing), schedule, batch_of(ones, nothing, (0,)))) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("predicted", "gamma", "weights"),
    [
        ("epsilon", 1.0, (1 / 4, 1.0)),  # min(SNR, gamma) / SNR of 4 and 2/3
        ("epsilon", 5.0, (1.0, 1.0)),
        ("v_prediction", 1.0, (1 / 5, 2 / 5)),  # min(SNR, gamma) / (SNR + 1)
        ("v_prediction", 5.0, (4 / 5, 2 / 5)),
    ],
)
def test_min_snr_weighs_each_picture_as_hang_and_others(predicted, gamma, weights):
    latents, noise, prediction = drawn("latents", "noise", "prediction")
    schedule = DDPMScheduler(**TWO_STEPS, prediction_type=predicted)
    share = kept(schedule)
    velocity = share.sqrt() * noise.double() - (1 - share).sqrt() * latents.double()
    target = velocity if predicted == "v_prediction" else noise.double()
    errors = (prediction.double() - target).square().mean(dim=(1, 2, 3))
    by_hand = (errors * torch.tensor(weights, dtype=torch.float64)).mean()
    loss = diffusion_loss(Recording(prediction), schedule, batch_of(latents, noise), snr_gamma=gamma)
    assert float(loss) == pytest.approx(float(by_hand), rel=1e-6)
    assert loss.dtype == torch.float32


def test_zero_terminal_snr_is_algorithm_1_of_lin_and_others(model):
    objective = ObjectiveSettings(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    schedule = replace(model, objective=objective).noise_scheduler()
    config = model.own_schedule
    betas = torch.linspace(config["beta_start"] ** 0.5, config["beta_end"] ** 0.5, 1000, dtype=torch.float64) ** 2
    root = torch.cumprod(1 - betas, dim=0).sqrt()
    rescaled = (root - root[-1]) * root[0] / (root[0] - root[-1])
    torch.testing.assert_close(schedule.alphas_cumprod.double().sqrt(), rescaled, rtol=1e-4, atol=1e-5)
    assert float(schedule.alphas_cumprod[0]) == pytest.approx(1 - config["beta_start"])
    latents, noise = drawn("latents", "noise")
    assert torch.equal(schedule.add_noise(latents, noise, torch.tensor([999, 999])), noise)
    # There velocity is the picture itself, negative: what pure noise can be asked for.
    assert torch.equal(schedule.get_velocity(latents, noise, torch.tensor([999, 999])), -latents)


WHOLE = Division(0, 1, 4, 1)


def batches_of(model, dataset, division=WHOLE, steps=1, **objective) -> list[Batch]:
    made = Batches(
        dataset,
        seed=3,
        scaling_factor=model.vae_scaling_factor,
        timesteps=1000,
        device=torch.device("cpu"),
        dtype=torch.float32,
        objective=ObjectiveSettings(**objective),
    )
    return list(made.run(division, 0, steps))


def stacked(batches: list[Batch], name: str) -> torch.Tensor:
    return torch.cat([getattr(batch, name) for batch in batches])


def test_the_noise_offset_shifts_each_channel_and_no_other_draw(model, dataset):
    plain = batches_of(model, dataset, steps=100)
    offset = batches_of(model, dataset, steps=100, noise_offset=0.1)
    for name in ("latents", "timesteps", "prompt_embeds", "pooled", "time_ids"):
        assert torch.equal(stacked(plain, name), stacked(offset, name))
    shifts = stacked(offset, "noise").double() - stacked(plain, "noise").double()
    assert float(shifts.std(dim=(2, 3)).max()) < 1e-6  # the same everywhere in a channel
    sizes = shifts.mean(dim=(2, 3)) / 0.1
    # 1 600 standard normal numbers; five standard errors.
    assert sizes.shape == (400, 4)
    assert abs(float(sizes.mean())) < 5 / 1600**0.5
    assert abs(float(sizes.std()) - 1) < 5 / (2 * 1600) ** 0.5


def test_the_noise_is_offset_for_the_share_of_pictures_asked_for(model, dataset):
    plain = batches_of(model, dataset, steps=100)
    offset = batches_of(model, dataset, steps=100, noise_offset=0.1, noise_offset_probability=0.25)
    shifted = (stacked(offset, "noise") != stacked(plain, "noise")).flatten(1).any(dim=1)
    # 400 pictures; five standard errors.
    assert abs(float(shifted.double().mean()) - 0.25) < 5 * (0.25 * 0.75 / 400) ** 0.5
    always = batches_of(model, dataset, steps=100, noise_offset=0.1)
    assert torch.equal(stacked(offset, "noise")[shifted], stacked(always, "noise")[shifted])


def test_the_perturbation_is_seen_and_not_predicted_as_ning_and_others(model, dataset):
    """x_t is sqrt(ā) x + sqrt(1 - ā) (ε + 0.1 ξ), and what is predicted is ε."""
    plain = batches_of(model, dataset, steps=25)
    perturbed = batches_of(model, dataset, steps=25, input_perturbation=0.1)
    for name in ("latents", "noise", "timesteps"):
        assert torch.equal(stacked(plain, name), stacked(perturbed, name))
    draws = stacked(perturbed, "perturbation") / 0.1
    assert abs(float(draws.mean())) < 5 / draws.numel() ** 0.5
    assert abs(float(draws.std()) - 1) < 5 / (2 * draws.numel()) ** 0.5
    together = torch.corrcoef(torch.stack([draws.flatten(), stacked(plain, "noise").flatten()]))
    assert abs(float(together[0, 1])) < 5 / draws.numel() ** 0.5

    latents, noise, prediction, extra = drawn("latents", "noise", "prediction", "perturbation")
    schedule, unet = DDPMScheduler(**TWO_STEPS), Recording(prediction)
    loss = diffusion_loss(unet, schedule, batch_of(latents, noise, perturbation=0.1 * extra))
    assert torch.equal(loss, torch.nn.functional.mse_loss(prediction, noise))
    share = kept(schedule)
    seen = share.sqrt() * latents.double() + (1 - share).sqrt() * (noise.double() + 0.1 * extra.double())
    torch.testing.assert_close(unet.saw.double(), seen, rtol=1e-6, atol=1e-6)


def test_extra_draws_follow_the_picture_however_a_batch_is_divided(model, dataset):
    chosen = {"noise_offset": 0.1, "input_perturbation": 0.1, "min_timestep": 100}
    (whole,) = batches_of(model, dataset, **chosen)
    halves = [batches_of(model, dataset, Division(rank, 2, 2, 1), **chosen) for rank in (0, 1)]
    for name in ("noise", "perturbation", "timesteps"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for (half,) in halves]))
    assert whole.paths == halves[0][0].paths + halves[1][0].paths


def test_timesteps_are_uniform_over_their_range_and_held_out_ones_spread_over_it(model, dataset):
    steps = stacked(batches_of(model, dataset, steps=250, min_timestep=200, max_timestep=300), "timesteps")
    assert (int(steps.min()), int(steps.max())) == (200, 299)
    # 1 000 of them uniform on 200 … 299: the mean's standard error is 0.91.
    assert abs(float(steps.double().mean()) - 249.5) < 4.6
    made = Batches(
        dataset,
        seed=3,
        scaling_factor=model.vae_scaling_factor,
        timesteps=1000,
        device=torch.device("cpu"),
        dtype=torch.float32,
        objective=ObjectiveSettings(min_timestep=200, max_timestep=300),
    )
    assert made.evaluation(range(4), 4).timesteps.tolist() == [212, 237, 262, 287]


def model_that_says(folder, model, **schedule) -> ModelSource:
    scheduler = DDPMScheduler.from_config({**model.own_schedule, **schedule})
    scheduler.save_pretrained(folder / "scheduler")
    return ModelSource(folder, model.vae_folder)


@pytest.mark.parametrize(
    ("schedule", "objective", "message"),
    [
        ({"prediction_type": "sample"}, {}, r"predicts 'sample' \(scheduler/scheduler_config.json\)"),
        ({}, {"rescale_betas_zero_snr": True}, "training.prediction_type: where the last timestep is pure noise"),
        (
            {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
            {"prediction_type": "epsilon"},
            "to predict that noise teaches nothing",
        ),
        ({}, {"min_timestep": 1000, "max_timestep": 2000}, "min_timestep: is past the end .* has 1000 timesteps"),
    ],
)
def test_a_model_that_does_not_go_with_the_objective_is_refused(tmp_path, model, report, schedule, objective, message):
    source = replace(model_that_says(tmp_path, model, **schedule), objective=ObjectiveSettings(**objective))
    with pytest.raises(InvalidInputError, match=message):
        require_schedule(source, report)


def test_a_model_of_noise_learns_velocity_with_a_warning_and_one_of_velocity_without(tmp_path, model, report):
    require_schedule(replace(model, objective=ObjectiveSettings(prediction_type="v_prediction")), report)
    (warning,) = report.named("warning")
    assert "predicts 'epsilon'" in warning["message"]
    own = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    source = model_that_says(tmp_path, model, **own)
    schedule = require_schedule(source, report)
    assert len(report.named("warning")) == 1
    assert schedule.config.prediction_type == "v_prediction"
    assert float(schedule.alphas_cumprod[-1]) == 0


def test_the_exported_pipeline_samples_what_was_learnt(tmp_path, model):
    objective = ObjectiveSettings(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    weights = model.unet(torch.float32).state_dict()
    replace(model, objective=objective).write_pipeline(weights, tmp_path / "pipeline")
    scheduler = StableDiffusionXLPipeline.from_pretrained(tmp_path / "pipeline").scheduler
    said = {name: scheduler.config[name] for name in ("prediction_type", "rescale_betas_zero_snr", "timestep_spacing")}
    assert said == {
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
    }
    assert type(scheduler).__name__ == model.own_schedule["_class_name"]
    scheduler.set_timesteps(10)
    assert scheduler.timesteps[0] == 999
    unchanged = (model.folder / "scheduler/scheduler_config.json").read_bytes()
    model.write_pipeline(weights, tmp_path / "own")
    assert (tmp_path / "own/scheduler/scheduler_config.json").read_bytes() == unchanged
