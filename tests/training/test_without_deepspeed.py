"""Answers without DeepSpeed train too: one process, and several CPU processes, through the real launch."""

import shutil
from pathlib import Path

import pytest
import torch

from harness.equal import assert_same
from harness.runs import cli
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "accelerate.use_deepspeed": "no",
    "accelerate.mixed_precision": "bf16",
    "training.resolution": 32,
    "training.train_batch_size": 4,
    "training.max_train_steps": 4,
    "training.lr_warmup_steps": 1,
    "training.checkpointing_steps": 2,
    "training.num_eval_images": 4,
    "training.num_validation_images": 0,
    "training.cpu_threads": 1,
}
ALONE = {"accelerate.use_cpu": "yes"}
TWO = {
    "accelerate.machine": "multi-CPU",
    "accelerate.num_processes": 2,
    "training.train_batch_size": 2,
    "deepspeed.gradient_accumulation_steps": 2,
    "deepspeed.optimizer.type": "Adagrad",
}


@pytest.fixture(scope="module")
def home(assets, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    answers = (ROOT / "examples/demo/answers.json").read_text()
    (folder / "answers.json").write_text(answers)
    (folder / "assets").symlink_to(assets)
    return folder


def replay(home: Path, name: str, **changes):
    chosen = {**SETTINGS, **changes}
    sets = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
    # As in a shell of another launcher's: what that says of its group is none of this run's.
    return cli(
        "--replay", "answers.json", "--run-dir", name, *sets, cwd=home, RANK="3", WORLD_SIZE="8", MASTER_PORT="9"
    )


def events(path: Path, kind: str) -> list[dict]:
    return [event for event in read_events(RunDirectory(path).events_jsonl)[0] if event["event"] == kind]


@pytest.mark.parametrize(("name", "changes", "ranks"), [("alone", ALONE, 1), ("two", TWO, 2)])
def test_it_trains_saves_and_exports(home, name, changes, ranks):
    done = replay(home, name, **changes)
    assert done.returncode == 0, done.stderr
    (model,) = events(home / name, "model")
    assert (model["zero_stage"], model["world_size"], model["dtype"]) == (None, ranks, "bfloat16")
    assert "plain PyTorch" in done.stderr
    assert len(events(home / name, "step")) == 4
    assert all(event["grad_norm"] > 0 for event in events(home / name, "step"))
    assert (home / name / "checkpoints/checkpoint-4/engine.pt").is_file()
    assert (home / name / "pipeline/unet/diffusion_pytorch_model.safetensors").is_file()


def test_it_continues_bit_for_bit_and_is_not_mixed_with_deepspeed(home):
    whole, half = home / "alone", home / "half"
    shutil.copytree(whole, half)
    shutil.rmtree(half / "checkpoints/checkpoint-4")  # as if it had been stopped before
    (half / "events.jsonl").unlink()
    done = replay(home, "half", **ALONE)
    assert done.returncode == 0, done.stderr
    (resumed,) = events(half, "resumed")
    assert resumed["step"] == 2
    told = ("step", "loss", "lr", "grad_norm")
    first, second = ([[event[key] for key in told] for event in events(run, "step")] for run in (whole, half))
    assert [step for step, *_ in second] == [3, 4]
    assert second == first[2:]
    states = [torch.load(run / "checkpoints/checkpoint-4/engine.pt") for run in (whole, half)]
    assert_same(*states, "engine.pt")
    answers = (half / "answers.json").read_bytes()
    done = replay(home, "half", **{**ALONE, "accelerate.use_deepspeed": "yes"})
    assert done.returncode == 2
    assert "ZeRO stage none (plain PyTorch) there, 2 here" in done.stderr
    assert (half / "answers.json").read_bytes() == answers
