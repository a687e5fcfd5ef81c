"""What the U-Net is told and asked: equal to what the diffusers pipeline would give it, and to the formulas."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image

from harness.data import scan
from launcher.config.training import DataSettings, TrainingSettings
from launcher.train import caches
from launcher.train.batches import Batches, Division
from launcher.train.models import ModelSource
from launcher.train.objective import diffusion_loss
from launcher.train.report import Report

RESOLUTION = 32
CAPTIONS = {
    "plain": "a red mushroom on a green meadow",
    "empty": "",
    "long": "an endless row of blue houses, " * 60,
    "umlaut": "ein grüner Käfer für 5 €, 日本語 🐞",
    "spaces": "  A Red\tMushroom\n on a second line ",
}
SHAPES = {"plain": (32, 32), "empty": (64, 32), "long": (48, 40), "umlaut": (50, 77), "spaces": (33, 131)}
"""(width, height) of the files."""
TURNED = "umlaut"
"""Its file lies on its side: a viewer shows it 77 wide and 50 high."""
TIME_IDS = {
    # original (height, width), crop (top, left), target (height, width)
    "plain": [32, 32, 0, 0, 32, 32],
    "empty": [32, 64, 0, 16, 32, 32],
    "long": [40, 48, 0, 3, 32, 32],  # scaled to 38 x 32
    "umlaut": [50, 77, 0, 8, 32, 32],  # scaled to 49 x 32
    "spaces": [131, 33, 47, 0, 32, 32],  # scaled to 32 x 127
}


@pytest.fixture(scope="module")
def pipeline(model) -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline.from_pretrained(model.folder)


@pytest.fixture(scope="module")
def samples(model, alone, tmp_path_factory):
    """A data set of every kind of caption and shape, cached in fp32, by name."""
    folder = tmp_path_factory.mktemp("conditioning")
    generator = np.random.default_rng(3)
    for name, caption in CAPTIONS.items():
        width, height = SHAPES[name]
        exif = Image.Exif()
        exif[0x0112] = 6 if name == TURNED else 1
        picture = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        picture.save(folder / f"{name}.png", exif=exif)
        (folder / f"{name}.txt").write_text(caption, encoding="utf-8")
    training = TrainingSettings(data=DataSettings(resolution=RESOLUTION, cache_dir=str(folder / "cache")))
    dataset = caches.prepare(training, model, scan(folder, RESOLUTION), torch.float32, alone, Report())
    return dataset, {sample.path.stem: sample for sample in (dataset[index] for index in range(len(dataset)))}


@pytest.mark.parametrize("name", CAPTIONS)
def test_prompts_are_encoded_as_the_pipeline_encodes_them(pipeline, samples, name):
    with torch.no_grad():
        embeds, _, pooled, _ = pipeline.encode_prompt(CAPTIONS[name].strip(), do_classifier_free_guidance=False)
    sample = samples[1][name]
    assert sample.prompt_embeds.shape == (77, 96)
    # A batch of several is added up in another order than one alone.
    torch.testing.assert_close(sample.prompt_embeds, embeds[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sample.pooled, pooled[0], rtol=1e-5, atol=1e-5)


def test_prompts_are_penultimate_states_of_both_encoders_and_the_second_ones_pooled(pipeline, samples):
    sample, states = samples[1]["plain"], []
    for tokenizer, encoder in (
        (pipeline.tokenizer, pipeline.text_encoder),
        (pipeline.tokenizer_2, pipeline.text_encoder_2),
    ):
        tokens = tokenizer(CAPTIONS["plain"], padding="max_length", max_length=77, return_tensors="pt").input_ids
        with torch.no_grad():
            told = encoder(tokens, output_hidden_states=True)
        states.append(told.hidden_states[-2][0])
    torch.testing.assert_close(sample.prompt_embeds, torch.cat(states, dim=-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sample.pooled, told.text_embeds[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SHAPES)
def test_time_ids_are_the_true_original_size_crop_and_target(pipeline, samples, name):
    told = samples[1][name].time_ids
    assert told.tolist() == TIME_IDS[name]
    original, crop, target = (tuple(TIME_IDS[name][index : index + 2]) for index in (0, 2, 4))
    same = pipeline._get_add_time_ids(
        original, crop, target, torch.float32, pipeline.text_encoder_2.config.projection_dim
    )
    assert torch.equal(told, same[0])


@pytest.mark.parametrize("name", SHAPES)
def test_latents_are_what_the_vae_makes_of_the_crop(pipeline, samples, name):
    with Image.open(samples[1][name].path) as opened:
        picture = opened.transpose(Image.Transpose.ROTATE_270) if name == TURNED else opened.convert("RGB")
    height, width, top, left = TIME_IDS[name][:4]
    scale = RESOLUTION / min(height, width)
    picture = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)
    pixels = np.asarray(picture, dtype=np.float32)[top : top + RESOLUTION, left : left + RESOLUTION]
    with torch.no_grad():
        posterior = pipeline.vae.encode(torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]).latent_dist
    torch.testing.assert_close(samples[1][name].mean, posterior.mean[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(samples[1][name].std, posterior.std[0], rtol=1e-4, atol=1e-5)


def batches_of(samples, model, **changed) -> Batches:
    settings = {"seed": 5, "timesteps": 1000, "device": torch.device("cpu"), "dtype": torch.float32}
    return Batches(samples[0], scaling_factor=model.vae_scaling_factor, **{**settings, **changed})


def test_each_picture_keeps_its_own_caption_size_and_latents(samples, model):
    seen = set()
    for batch in batches_of(samples, model).run(Division(0, 1, 3, 1), 0, 10):
        for row in range(3):
            name = next(name for name, one in samples[1].items() if torch.equal(one.pooled, batch.pooled[row]))
            sample = samples[1][name]
            assert torch.equal(batch.prompt_embeds[row], sample.prompt_embeds)
            assert batch.time_ids[row].tolist() == TIME_IDS[name]
            drawn = (batch.latents[row] / model.vae_scaling_factor - sample.mean) / sample.std
            assert float(drawn.abs().max()) < 6
            assert not torch.allclose(drawn, batch.noise[row], atol=0.1)
            seen.add(name)
    assert seen == set(CAPTIONS)


def test_noise_is_standard_normal_and_timesteps_are_uniform(samples, model):
    noise, draws, steps = [], [], []
    for batch in batches_of(samples, model).run(Division(0, 1, 50, 1), 0, 20):
        noise.append(batch.noise)
        steps.append(batch.timesteps)
        draws.append(batch.latents)
    noise, steps = torch.cat(noise), torch.cat(steps)
    # 256 000 numbers; five standard errors.
    assert abs(float(noise.mean())) < 5 / 256_000**0.5
    assert abs(float(noise.std()) - 1) < 5 / (2 * 256_000) ** 0.5
    # 1 000 of them uniform on 0 … 999: the mean's standard error is 9.1.
    assert abs(float(steps.float().mean()) - 499.5) < 46
    assert steps.min() >= 0
    assert steps.max() <= 999
    assert len(set(steps.tolist())) > 500


@pytest.mark.parametrize("schedule", ["the model's own", "another"])
def test_the_loss_is_the_one_computed_by_hand(samples, model, pipeline, tmp_path, schedule):
    """Ho et al. 2020: x_t is sqrt(ā_t) x_0 + sqrt(1 - ā_t) ε, and the loss the mean square of ε - ε_θ(x_t, t)."""
    source = model
    if schedule == "another":
        shutil.copytree(model.folder / "scheduler", tmp_path / "scheduler")
        path = tmp_path / "scheduler/scheduler_config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "beta_schedule": "linear", "beta_end": 0.02}))
        source = ModelSource(tmp_path, model.vae_folder)
        betas = torch.linspace(config["beta_start"], 0.02, 1000, dtype=torch.float64)
    else:
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas_cumprod = torch.cumprod(1 - betas, dim=0)
    batch = next(batches_of(samples, model).run(Division(0, 1, 5, 1), 0, 1))
    kept = alphas_cumprod[batch.timesteps].view(-1, 1, 1, 1)
    noisy = (kept.sqrt() * batch.latents + (1 - kept).sqrt() * batch.noise).float()
    with torch.no_grad():
        predicted = pipeline.unet(
            noisy,
            batch.timesteps,
            encoder_hidden_states=batch.prompt_embeds,
            added_cond_kwargs={"text_embeds": batch.pooled, "time_ids": batch.time_ids},
        ).sample
        loss = diffusion_loss(pipeline.unet, source.noise_scheduler(), batch)
    by_hand = float(((predicted - batch.noise).double() ** 2).mean())
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)
    assert loss.dtype == torch.float32
