"""A LoRA through the command line: trained, continued where it was stopped, exported, never continued as full."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from harness.runs import cli
from harness.small_engines import assert_same
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events
from launcher.train.lora import DIFFUSERS_FILE

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "accelerate.use_cpu": "yes",
    "training.model_type": "lora",
    "training.lora_rank": 4,
    "training.lora_dropout": 0.2,
    "training.resolution": 32,
    "training.train_batch_size": 4,
    "training.max_train_steps": 4,
    "training.lr_warmup_steps": 1,
    "training.checkpointing_steps": 2,
    "training.num_eval_images": 0,
    "training.num_validation_images": 1,
    "training.validation_num_inference_steps": 1,
    "training.cpu_threads": 1,
}


def replay(home: Path, name: str, **changes):
    sets = [part for key, value in {**SETTINGS, **changes}.items() for part in ("--set", f"{key}={value}")]
    return cli("--replay", "answers.json", "--run-dir", name, *sets, cwd=home)


def events(path: Path, kind: str) -> list[dict]:
    return [event for event in read_events(RunDirectory(path).events_jsonl)[0] if event["event"] == kind]


@pytest.mark.exhaustive
def test_a_lora_is_trained_continued_and_exported(assets, tmp_path):
    shutil.copy(ROOT / "examples/demo/answers.json", tmp_path)
    (tmp_path / "assets").symlink_to(assets)
    done = replay(tmp_path, "whole")
    assert done.returncode == 0, done.stderr
    assert "LoRA of rank 4, 45,184 of 1.9 M parameters trained, in bfloat16, ZeRO-2" in done.stderr
    (drawn,) = events(tmp_path / "whole", "pictures")
    assert Path(drawn["path"]).is_file()

    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    for lost in ("checkpoints/checkpoint-4", "lora"):
        shutil.rmtree(tmp_path / "half" / lost)
    (tmp_path / "half/events.jsonl").unlink()
    done = replay(tmp_path, "half", **{"training.model_type": "full"})
    assert done.returncode == 2
    assert "model type lora there, full here" in done.stderr
    done = replay(tmp_path, "half")
    assert done.returncode == 0, done.stderr
    told = ("step", "loss", "lr", "grad_norm")
    runs = [events(tmp_path / name, "step") for name in ("whole", "half")]
    whole, half = ([[step[key] for key in told] for step in steps] for steps in runs)
    assert half == whole[2:]
    one, other = (load_file(tmp_path / name / "lora" / DIFFUSERS_FILE) for name in ("whole", "half"))
    assert_same(one, other)
