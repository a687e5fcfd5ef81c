"""A loss that is not finite ends the run before the update and names its pictures; an overflow in fp16 does not."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from harness.runs import cli
from harness.tiny_zero import TINY
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.data.dataset import NAMED
from launcher.errors import RunFailedError
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events
from launcher.runs.outcome import read_outcome
from launcher.train.batches import Batches, Division
from launcher.train.caches import CachedDataset
from launcher.train.caches.shards import Shards, ShardWriter
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.known import KnownFiles
from launcher.train.loading import DTYPES
from launcher.train.loop import Loop
from launcher.train.plain_engine import PlainEngine
from launcher.train.step_loss import StepLoss

ROOT = Path(__file__).parents[2]
ACCUMULATION, BEFORE = 2, 2
PLACES = {
    "plain": {"stage": 0, "offload_optimizer_device": "none"},
    "stage 2 cpu": {"stage": 2},
    "stage 3 cpu": {"stage": 3},
}


def loop_of(place, precision, model, dataset, world, report) -> Loop:
    chosen = {**PLACES[place], "precision": precision, "gradient_accumulation_steps": ACCUMULATION}
    config = to_deepspeed_json(
        DeepSpeedSettings(**TINY, **chosen), train_batch_size=2, learning_rate=1e-3, warmup_steps=1, total_steps=9
    )
    dtype = DTYPES[precision]
    unet = model.unet(dtype)
    engine = PlainEngine(unet, config, world) if place == "plain" else DeepSpeedEngine(unet, config)
    batches = Batches(
        dataset, seed=2, scaling_factor=model.vae_scaling_factor, timesteps=1000, device=world.device, dtype=dtype
    )
    return Loop(engine, batches, model.noise_scheduler(), Division(0, 1, 2, ACCUMULATION), world, report, lambda: None)


def weights(loop: Loop) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in loop.engine.master_weights()}


class Poisoned(CachedDataset):
    """One of the pictures has latents that are not finite."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        if index == self.bad:
            sample.mean.fill_(torch.nan)
        return sample


@pytest.mark.parametrize("place", ["plain", "stage 2 cpu", pytest.param("stage 3 cpu", marks=pytest.mark.exhaustive)])
def test_the_step_is_not_taken_and_the_files_of_its_micro_batch_are_named(place, model, dataset, group, report):
    clean = loop_of(place, "no", model, dataset, group, report)
    micro_batches = list(clean.batches.run(clean.division, BEFORE, BEFORE + 1))
    named = [str(path) for path in micro_batches[1].paths]
    poisoned = Poisoned(dataset.entries, dataset.latents, dataset.prompts, dataset.prompt_keys)
    paths = [entry.picture.path for entry in dataset.entries]
    object.__setattr__(poisoned, "bad", paths.index(micro_batches[1].paths[0]))
    clean.batches._dataset = poisoned
    saved = []
    assert clean.steps(0, BEFORE, save_every=9, save=saved.append) == (BEFORE, None)
    before, told = weights(clean), len(report.named("step"))
    with pytest.raises(RunFailedError) as failed:
        clean.steps(BEFORE, 9, save_every=1, save=saved.append)
    assert str(failed.value).startswith(f"the loss of step {BEFORE + 1} is not a finite number")
    assert str(failed.value).splitlines()[1:] == [f"  {name}" for name in named]
    assert saved == [BEFORE]
    assert len(report.named("step")) == told
    assert all(torch.equal(weight, before[name]) for name, weight in weights(clean).items())


def test_twenty_files_are_named_and_the_rest_counted(alone):
    losses = StepLoss(2)
    assert not losses.add(torch.tensor(1.0), tuple(Path(f"{index}.png") for index in range(NAMED)))
    assert losses.add(torch.tensor(torch.inf), tuple(Path(f"bad-{index}.png") for index in range(NAMED + 3)))
    with pytest.raises(RunFailedError) as failed:
        losses.agree(alone, 7)
    lines = str(failed.value).splitlines()
    assert lines[1:] == [*(f"  bad-{index}.png" for index in range(NAMED)), "  and 3 more"]


def test_gradients_that_overflow_in_fp16_halve_the_loss_scale_and_are_told(model, dataset, alone, report):
    loop = loop_of("plain", "fp16", model, dataset, alone, report)
    loop.engine._scaler._lazy_init_scale_growth_tracker(alone.device)
    loop.engine._scaler.update(2.0**40)
    before = weights(loop)
    loop.steps(0, 3, save_every=9, save=lambda step: None)
    steps = report.named("step")
    assert [step["skipped"] for step in steps] == [True] * 3
    assert [step["loss_scale"] for step in steps] == [2.0**39, 2.0**38, 2.0**37]
    assert all(step["loss"] > 0 for step in steps)
    assert all(torch.equal(weight, before[name]) for name, weight in weights(loop).items())


@pytest.mark.parametrize(("precision", "scale"), [("fp16", 2.0**16), ("bf16", None)])
def test_a_step_that_is_taken_says_so(precision, scale, model, dataset, alone, report):
    loop = loop_of("plain", precision, model, dataset, alone, report)
    loop.steps(0, 1, save_every=9, save=lambda step: None)
    (step,) = report.named("step")
    assert (step["skipped"], step["loss_scale"]) == (False, scale)


def poison(cache: Path) -> None:
    """Latents that are whole, and not finite."""
    latents = Shards(cache / "latents")
    latents.scan(KnownFiles(cache / "known.json"), pytest.fail)
    found = {key: latents.read(key) for key in latents.index}
    shutil.rmtree(latents.folder)
    with ShardWriter(latents) as writer:
        for key, tensors in found.items():
            writer.add(key, {name: torch.full_like(value, torch.nan) for name, value in tensors.items()})


RUN = {
    "accelerate.use_deepspeed": "no",
    "accelerate.mixed_precision": "bf16",
    "training.resolution": 32,
    "training.max_train_steps": 2,
    "training.lr_warmup_steps": 1,
    "training.num_eval_images": 0,
    "training.num_validation_images": 0,
    "training.cpu_threads": 1,
    "training.prediction_type": "v_prediction",
    "training.rescale_betas_zero_snr": "yes",
    "training.noise_offset": 0.05,
    "training.input_perturbation": 0.1,
    "training.max_timestep": 900,
    "training.cache_dir": "cache",
}
RANKS = {
    "one": {"accelerate.use_cpu": "yes", "training.train_batch_size": 4},
    "two": {
        "accelerate.machine": "multi-CPU",
        "accelerate.num_processes": 2,
        "training.train_batch_size": 2,
        "deepspeed.gradient_accumulation_steps": 2,
    },
}


@pytest.mark.parametrize("ranks", ["one", pytest.param("two", marks=pytest.mark.exhaustive)])
def test_a_run_ends_with_1_and_its_checkpoints_are_whole(assets, tmp_path, ranks):
    (tmp_path / "answers.json").write_text((ROOT / "examples/demo/answers.json").read_text())
    (tmp_path / "assets").symlink_to(assets)

    def replay(**changes):
        chosen = {**RUN, **RANKS[ranks], **changes}
        sets = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
        return cli("--replay", "answers.json", "--run-dir", "run", *sets, cwd=tmp_path)

    done = replay()
    assert done.returncode == 0, done.stderr
    run, events = RunDirectory(tmp_path / "run"), lambda: read_events(RunDirectory(tmp_path / "run").events_jsonl)[0]
    assert any("predicts 'epsilon'" in event["message"] for event in events() if event["event"] == "warning")
    (model,) = (event for event in events() if event["event"] == "model")
    assert model["attention"] == "flash"
    schedule = json.loads((run.path / "pipeline/scheduler/scheduler_config.json").read_text())
    assert (schedule["prediction_type"], schedule["rescale_betas_zero_snr"]) == ("v_prediction", True)

    poison(tmp_path / "cache")
    shutil.rmtree(run.path / "pipeline")
    done = replay(**{"training.max_train_steps": 6, "training.checkpointing_steps": 1})
    assert done.returncode == 1
    assert "the loss of step 3 is not a finite number" in done.stderr
    outcome = read_outcome(run)
    assert outcome is not None
    assert (outcome.result, outcome.exit_code) == ("failed", 1)
    pictures = {str(path) for path in (tmp_path / "assets/pictures").resolve().rglob("*.png")}
    named = [str(Path(line.strip()).resolve()) for line in outcome.message.splitlines()[1:]]
    assert len(named) == (4 if ranks == "one" else 8)
    assert set(named) <= pictures
    assert [path.name for path in (run.path / "checkpoints").iterdir()] == ["checkpoint-2"]
    assert (run.path / "checkpoints/checkpoint-2/COMPLETE").is_file()
    assert [event["step"] for event in events() if event["event"] == "step"] == [1, 2]
