"""The exported pipeline: the trained masters, in a folder that plain diffusers loads, replaced whole or not at all."""

import shutil
from functools import partial

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from launcher.config.deepspeed import DeepSpeedSettings, to_deepspeed_json
from launcher.config.training import DataSettings, ExportSettings, TrainingSettings
from launcher.errors import RunFailedError
from launcher.train.batches import Batches, Division
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.export import DTYPES, draw_samples, export_pipeline
from launcher.train.objective import diffusion_loss


@pytest.fixture(scope="module")
def engine(group, model, dataset) -> DeepSpeedEngine:
    """Trained for four steps in bf16, so that the masters are neither what was loaded nor what bf16 holds."""
    config = to_deepspeed_json(
        DeepSpeedSettings(stage=2, reduce_bucket_size=200_000, allgather_bucket_size=200_000),
        train_batch_size=2,
        learning_rate=1e-3,
        warmup_steps=1,
        total_steps=4,
    )
    engine = DeepSpeedEngine(model.unet(torch.bfloat16), config)
    batches = Batches(
        dataset,
        seed=1,
        scaling_factor=model.vae_scaling_factor,
        timesteps=1000,
        device=group.device,
        dtype=torch.bfloat16,
    )
    for batch in batches.run(Division(0, 1, 2, 1), 0, 4):
        engine.backward(diffusion_loss(engine, model.noise_scheduler(), batch))
        engine.step()
    return engine


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_exported_unet_is_the_masters_in_the_export_dtype(engine, model, group, report, tmp_path, dtype):
    folder = export_pipeline(engine, model, ExportSettings(export_dtype=dtype), tmp_path / "pipeline", group, report)
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=DTYPES[dtype])
    weights, masters = dict(pipeline.unet.named_parameters()), dict(engine.master_weights())
    assert weights.keys() == masters.keys()
    assert all(torch.equal(weights[name], master.to(DTYPES[dtype]).cpu()) for name, master in masters.items())
    before = model.unet(torch.bfloat16).state_dict()
    assert any(not torch.equal(weights[name], tensor.to(DTYPES[dtype])) for name, tensor in before.items())
    # Everything else is the model's own.
    own = StableDiffusionXLPipeline.from_pretrained(model.folder, torch_dtype=DTYPES[dtype])
    for component in ("vae", "text_encoder", "text_encoder_2"):
        mine, theirs = getattr(pipeline, component).state_dict(), getattr(own, component).state_dict()
        assert all(torch.equal(mine[name], tensor) for name, tensor in theirs.items())
    assert pipeline.scheduler.config == own.scheduler.config
    (event,) = report.named("export")
    assert event["bytes"] == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline"]


def test_the_exported_pipeline_draws(engine, model, group, report, tmp_path):
    settings = ExportSettings(export_dtype="fp32", num_validation_images=3, validation_num_inference_steps=2)
    folder = export_pipeline(engine, model, settings, tmp_path / "pipeline", group, report)
    training = TrainingSettings(data=DataSettings(resolution=32), export=settings)
    captions = ["a red mushroom", "a blue house"]
    load = partial(StableDiffusionXLPipeline.from_pretrained, folder)
    draw_samples(
        lambda dtype: load(torch_dtype=dtype), training, captions, tmp_path / "samples", torch.device("cpu"), report
    )
    assert report.warnings == []
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == [
        "grid.png",
        "sample-1.png",
        "sample-2.png",
        "sample-3.png",
    ]
    assert set(report.named("pictures")[0]["prompts"]) == set(captions)


def test_pictures_that_cannot_be_drawn_are_a_warning(report, tmp_path):
    def load(dtype):
        raise OSError("there is no pipeline")

    draw_samples(load, TrainingSettings(), ["a caption"], tmp_path / "samples", torch.device("cpu"), report)
    (warning,) = report.warnings
    assert "the sample pictures could not be drawn" in warning


def test_an_export_that_fails_leaves_the_earlier_one(engine, model, group, report, small_disk):
    size = sum(file.stat().st_size for file in model.folder.rglob("*") if file.is_file()) // 1024
    disk = small_disk(2 * size)
    settings = ExportSettings(export_dtype="bf16")
    export_pipeline(engine, model, settings, disk / "pipeline", group, report)
    (disk / "something-else").write_bytes(bytes(shutil.disk_usage(disk).free - 100_000))
    before = {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()}
    with pytest.raises(RunFailedError) as caught:
        export_pipeline(engine, model, ExportSettings(export_dtype="fp32"), disk / "pipeline", group, report)
    assert f"the pipeline could not be exported to {disk / 'pipeline'}" in str(caught.value)
    assert "No space left" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in disk.rglob("*") if path.is_file()} == before
    assert len(report.named("export")) == 1


def test_an_export_replaces_the_earlier_one(engine, model, group, report, tmp_path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/of-an-earlier-run").touch()
    export_pipeline(engine, model, ExportSettings(), tmp_path / "pipeline", group, report)
    assert not (tmp_path / "pipeline/of-an-earlier-run").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["pipeline"]
    shutil.rmtree(tmp_path / "pipeline")
