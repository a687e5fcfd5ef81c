"""The exported pipeline: the trained masters, in a folder that plain diffusers loads, replaced whole or not at all."""

import json
import shutil
from functools import partial

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

from harness.recorder import Recorder
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.training import ExportSettings
from launcher.errors import InvalidInputError, RunFailedError
from launcher.runs.checkpoints import FACTS, Identity
from launcher.runs.marker import mark
from launcher.train.batches import Batches, Division
from launcher.train.checkpoint import Checkpoints
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.export import DTYPES, export_pipeline, write_unet
from launcher.train.exporting import Wanted, export
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


@pytest.fixture(scope="module")
def checkpoint(engine, model, group, tmp_path_factory):
    """Of that training, below a run directory that is none."""
    identity = Identity(
        zero_stage=2,
        precision="bf16",
        optimizer="AdamW",
        world_size=1,
        model=str(model.folder),
        resolution=32,
        seed=1,
        global_batch_size=2,
        pictures=8,
    )
    write = partial(write_unet, model=model, dtype="bf16", world=group)
    folder = tmp_path_factory.mktemp("run")
    return Checkpoints(folder, 2, identity, group, Recorder(), contents="both").save(engine, 4, write)


def told(done: int, total: int) -> None:
    """Progress that nobody sees."""


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_checkpoint_is_exported_without_an_engine(engine, checkpoint, tmp_path, dtype):
    masters = dict(engine.master_weights())
    folder = export(Wanted(checkpoint, tmp_path / "out", "unet", dtype), told)
    unet = UNet2DConditionModel.from_pretrained(folder, torch_dtype=DTYPES[dtype])
    for name, weight in unet.named_parameters():
        assert torch.equal(weight, masters[name].to(DTYPES[dtype])), name
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_checkpoint_becomes_a_pipeline_or_one_file_that_diffusers_loads(engine, checkpoint, model, tmp_path):
    masters = dict(engine.master_weights())
    folder = export(Wanted(checkpoint, tmp_path / "pipeline", "pipeline", "fp32"), told)
    file = export(Wanted(checkpoint, tmp_path / "one.safetensors", "single-file", "fp32"), told)
    loaded = (
        StableDiffusionXLPipeline.from_pretrained(folder, torch_dtype=torch.float32),
        StableDiffusionXLPipeline.from_single_file(
            str(file), config=str(model.folder), local_files_only=True, torch_dtype=torch.float32
        ),
    )
    own = StableDiffusionXLPipeline.from_pretrained(model.folder, torch_dtype=torch.float32)
    for pipeline in loaded:
        for name, weight in pipeline.unet.named_parameters():
            assert torch.equal(weight, masters[name]), name
        for component in ("vae", "text_encoder", "text_encoder_2"):
            mine, theirs = getattr(pipeline, component).state_dict(), getattr(own, component).state_dict()
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[name], tensor) for name, tensor in theirs.items())


def test_a_checkpoint_of_weights_alone_is_one_that_diffusers_loads_and_is_exported_too(
    engine, model, group, checkpoint, tmp_path
):
    masters = dict(engine.master_weights())
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet", torch_dtype=torch.bfloat16)
    assert all(torch.equal(weight, masters[name].bfloat16()) for name, weight in unet.named_parameters())
    identity = Identity(**{name: json.loads((checkpoint / FACTS).read_text())[name] for name in Identity.__slots__})
    write = partial(write_unet, model=model, dtype="bf16", world=group)
    alone = Checkpoints(tmp_path, 2, identity, group, Recorder(), contents="weights").save(engine, 4, write)
    folder = export(Wanted(alone, tmp_path / "out", "unet", "bf16"), told)
    exported = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.bfloat16)
    assert all(torch.equal(weight, masters[name].bfloat16()) for name, weight in exported.named_parameters())


def test_a_moving_average_is_exported_where_there_is_one(engine, checkpoint, tmp_path):
    with pytest.raises(InvalidInputError, match="holds no moving average of the weights; leave --ema out"):
        export(Wanted(checkpoint, tmp_path / "out", "unet", "fp32", ema=True), told)
    averaged = tmp_path / checkpoint.name
    shutil.copytree(checkpoint, averaged)
    averages = [partition.detach() * 2 for partition in engine._optimizer.single_partition_of_fp32_groups]
    torch.save({"updates": 4, "average": averages}, averaged / "ema-rank-0.pt")
    mark(averaged)
    folder = export(Wanted(averaged, tmp_path / "out", "unet", "fp32", ema=True), told)
    masters, unet = dict(engine.master_weights()), UNet2DConditionModel.from_pretrained(folder)
    assert all(torch.equal(weight, masters[name] * 2) for name, weight in unet.named_parameters())


def test_a_checkpoint_of_another_model_is_not_exported(checkpoint, model, tmp_path):
    shutil.copytree(model.folder, tmp_path / "other")
    config = json.loads((tmp_path / "other/unet/config.json").read_text())
    (tmp_path / "other/unet/config.json").write_text(json.dumps({**config, "cross_attention_dim": 8}))
    with pytest.raises(InvalidInputError, match="name the model that was trained with --model"):
        export(Wanted(checkpoint, tmp_path / "out", "unet", "bf16", str(tmp_path / "other")), told)
    assert not (tmp_path / "out").exists()


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
