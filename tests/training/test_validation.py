"""Pictures while it trains: what a plain pipeline with the same weights draws; and training does not notice."""

from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image, ImageChops

from harness.equal import assert_same
from harness.many_pictures import PROMPTS, STEPS, Run, drawn, prepared
from harness.ranks import run_ranks
from harness.tiny_zero import TINY
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.training import DataSettings, ExportSettings, TrainingSettings, ValidationSettings
from launcher.train.export import export_pipeline
from launcher.train.samples import THUMBNAIL, Wanted, draw_samples, prompts_to_cache, wanted
from launcher.train.validation import decode

OFFLOADED = {"offload_optimizer_device": "cpu", "offload_param_device": "cpu"}
PLACES = {
    "plain": {"stage": 0},
    "zero2": {"stage": 2, "offload_optimizer_device": "cpu"},
    "zero3": {"stage": 3},
    "zero3-cpu-params": {"stage": 3, **OFFLOADED},
}
ALONE = {
    "plain": ("plain", None),
    "zero3-cpu-params": ("zero3-cpu-params", None),
    "zero3-scheduler": ("zero3", "scheduler"),
    "zero3-layer": ("zero3", "layer"),
    "plain-layer": ("plain", "layer"),
}
ON_TWO = {
    "zero3": ("zero3", None),
    "zero3-scheduler": ("zero3", "scheduler"),
    "zero2-layer": ("zero2", "layer"),
    "plain": ("plain", None),
}
IN_CI = ("plain-layer",), ("zero3-scheduler",)
"""Alone, and on two ranks."""
FAULTS = {
    "scheduler": "ValueError: this scheduler is broken",
    "layer": "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB",
}


def case(place: str, fails: str | None, world_size: int) -> dict:
    plain = {"offload_optimizer_device": "none", "precision": "no"}
    config = to_deepspeed_json(
        DeepSpeedSettings(**{**TINY, **plain, **PLACES[place]}),
        train_batch_size=2 // world_size,
        learning_rate=1e-3,
        warmup_steps=1,
        total_steps=STEPS,
    )
    config["scheduler"]["params"]["warmup_min_lr"] = 1e-3  # from the first step on: otherwise both are of rate 0
    return {"plain": place == "plain", "precision": "no", "fails": fails, "config": config}


@pytest.fixture(scope="session")
def prompted(assets, model, cache_dir, dataset, alone):
    return prepared(model, assets / "pictures", 32, cache_dir, "no", alone)


def marked(names, in_ci: tuple[str, ...]) -> list:
    return [pytest.param(name, marks=[] if name in in_ci else [pytest.mark.exhaustive]) for name in names]


@pytest.fixture(scope="session")
def of_two_ranks(assets, cache_dir, prompted, tmp_path_factory):
    """Folders of cases on two ranks, by whether CI takes them: the same processes go through a whole group."""

    @cache
    def train(in_ci: bool) -> Path:
        folder = tmp_path_factory.mktemp("drawn")
        cases = {name: ON_TWO[name] for name in ON_TWO if (name in IN_CI[1]) is in_ci}
        job = {
            "model": str(assets / "model"),
            "pictures": str(assets / "pictures"),
            "cache": str(cache_dir),
            "resolution": 32,
            "precision": "no",
            "cases": {name: case(place, fails, 2) for name, (place, fails) in cases.items()},
        }
        run_ranks("harness.many_pictures", job, folder, world_size=2, seconds=540)
        return folder

    return train


def check(found: dict, fails: str | None, folder: Path) -> None:
    """Training is the same to the bit, and there are pictures, or a warning."""
    assert_same(found["with"], found["without"], "training")
    assert found["with"]["told"][0][1] != found["with"]["told"][1][1]
    assert any(not torch.equal(*pair) for pair in zip(found["with"]["masters"], found["start"], strict=True))
    steps = [event["step"] for event in found["events"]]
    if fails is None:
        assert (steps, found["warnings"]) == ([1, 2], [])
    else:
        assert steps == [2]  # at the next turn it goes well
        assert found["warnings"] == [f"the pictures of step 1 could not be drawn: {FAULTS[fails]}"]
    for event in found["events"]:
        assert event["prompts"] == list(PROMPTS)
        assert [(row["prompt"], row["seed"]) for row in event["pictures"]] == [(prompt, 42) for prompt in PROMPTS]
        assert event["path"] == str(folder / f"step-{event['step']}")
        for row in event["pictures"]:
            with Image.open(row["path"]) as picture, Image.open(row["thumbnail"]) as thumbnail:
                assert picture.size == (32, 32)
                assert max(thumbnail.size) <= THUMBNAIL
            assert Path(row["path"]).parent == folder / f"step-{event['step']}"


@pytest.mark.parametrize("name", marked(ALONE, IN_CI[0]))
def test_pictures_are_drawn_or_not_and_training_goes_on_as_if_nothing_was(name, group, model, prompted, tmp_path):
    place, fails = ALONE[name]
    check(drawn(name, case(place, fails, 1), group, model, prompted, tmp_path), fails, tmp_path / name)


@pytest.mark.parametrize("name", marked(ON_TWO, IN_CI[1]))
def test_two_ranks_divide_pictures_and_leave_together(name, of_two_ranks):
    folder = of_two_ranks(name in IN_CI[1])
    for rank in range(2):
        found = torch.load(folder / f"{name}-{rank}.pt", weights_only=False)
        check(found, ON_TWO[name][1], folder / name)


def test_what_is_drawn_is_what_a_plain_pipeline_draws_with_the_same_weights(group, model, prompted, report, tmp_path):
    run = Run(case("zero3", None, 1), group, model, prompted, tmp_path / "samples", draws=True)
    run.steps()
    export = ExportSettings(export_dtype="fp32")
    folder = export_pipeline(run.engine, model, export, tmp_path / "pipeline", group, report)
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pictures = run.recorder.named("pictures")[-1]["pictures"]
    before = {row["prompt"]: row for row in run.recorder.named("pictures")[0]["pictures"]}
    for row in pictures:
        generator = torch.Generator().manual_seed(row["seed"])
        theirs = pipeline(row["prompt"], height=32, width=32, num_inference_steps=2, generator=generator).images[0]
        assert apart(row["path"], theirs) <= 1
        assert apart(before[row["prompt"]]["path"], theirs) > 1


def apart(path: str, picture: Image.Image) -> int:
    """The most that a value of two pictures differs."""
    with Image.open(path) as mine:
        return max(high for _, high in ImageChops.difference(mine.convert("RGB"), picture).getextrema())


def settings(**some) -> TrainingSettings:
    return TrainingSettings(data=DataSettings(resolution=32), validation=ValidationSettings(**some))


def test_each_prompt_is_drawn_with_each_seed():
    training = settings(
        validation_prompt="a", validation_prompts=("b", " "), num_validation_images=2, validation_seed=7
    )
    assert wanted(training, ["c"]) == [Wanted("a", 7), Wanted("a", 8), Wanted("b", 7), Wanted("b", 8)]
    assert wanted(settings(num_validation_images=0, validation_prompt="a"), ["c"]) == []


def test_without_prompts_captions_from_all_over_the_data_set_are_drawn():
    captions = [str(number // 2) for number in range(20)]
    drawn = wanted(settings(num_validation_images=5), captions)
    assert [picture.prompt for picture in drawn] == ["0", "2", "4", "6", "8"]
    assert len({picture.seed for picture in drawn}) == 5
    assert [picture.prompt for picture in wanted(settings(num_validation_images=3), ["one"])] == ["one"] * 3


def test_prompts_are_embedded_only_where_pictures_are_drawn_while_it_trains():
    assert prompts_to_cache(settings(validation_prompt="a"), ["c"]) == []
    training = settings(validation_prompt="a", validation_steps=5, num_validation_images=1)
    assert prompts_to_cache(training, ["c"]) == ["a", ""]
    assert prompts_to_cache(settings(validation_steps=5, num_validation_images=0), ["c"]) == []


def test_where_the_gpu_is_full_pictures_are_decoded_in_tiles_and_at_last_on_the_cpu(model):
    """The GPU is stood in for: the VAE has no room for as many decodings as it is told."""
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = model.vae().decode(latents).sample
    for full in (1, 2, 3):
        vae = model.vae()
        tried = []
        plain = vae.decode

        def decode_or_not(latents, vae=vae, tried=tried, plain=plain, full=full):
            tried.append(vae.use_tiling)
            if len(tried) <= full:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return plain(latents)

        vae.decode = decode_or_not
        if full == 3:
            with pytest.raises(torch.OutOfMemoryError):
                decode(vae, latents)
        else:
            with torch.no_grad():
                assert torch.allclose(decode(vae, latents), expected, atol=1e-5)
        assert tried == [False, True, True][: full + 1]


def test_the_exported_pipeline_draws(model, alone, report, tmp_path):
    captions = ["a red mushroom", "a blue house"]
    training = settings(num_validation_images=3, validation_num_inference_steps=2, validation_negative_prompt="grey")
    draw_samples(loaded_from(model.folder), training, captions, tmp_path / "samples", 9, alone, report)
    assert report.warnings == []
    names = [f"sample-{number:02}.png" for number in (1, 2, 3)]
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["grid.png", *names, "thumbnails"]
    (event,) = report.named("pictures")
    assert (event["step"], set(event["prompts"])) == (9, set(captions))
    assert [Path(row["path"]).name for row in event["pictures"]] == names


def loaded_from(folder):
    return lambda dtype: StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=dtype)


def test_pictures_that_cannot_be_drawn_are_a_warning(report, alone, tmp_path):
    draw_samples(loaded_from(tmp_path), settings(), ["a caption"], tmp_path / "samples", 9, alone, report)
    (warning,) = report.warnings
    assert "the sample pictures could not be drawn" in warning
