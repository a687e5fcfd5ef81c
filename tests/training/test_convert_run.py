"""Another ZeRO stage for a run, through the command line: refused with a command, which is all that it takes."""

import json
import re
import shlex
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel

from harness.runs import cli, events
from harness.small_engines import assert_same, distance
from launcher.errors import ExitCode
from launcher.runs.directory import RunDirectory

ANSWERS = {
    "training.pretrained_model_name_or_path": "./assets/model",
    "training.instance_data_dir": "./assets/pictures",
    "training.resolution": 32,
    "training.train_batch_size": 2,
    "training.gradient_checkpointing": False,
    "training.export_pipeline": False,
    "training.num_eval_images": 0,
    "training.cpu_threads": 1,
    "training.max_train_steps": 5,
    "training.checkpointing_steps": 3,
    "training.learning_rate": 1e-3,
    "training.lr_warmup_steps": 1,
    "training.use_ema": True,
    "training.ema_decay": 0.3,
    "accelerate.use_cpu": True,
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 2,
    "accelerate.mixed_precision": "no",
}
PARITY = 1e-4
"""Of the distance that training moves the weights: another stage adds up the same fp32 gradients in another order."""


@pytest.mark.exhaustive
def test_the_command_that_a_refusal_names_is_all_it_takes(assets, tmp_path):
    (tmp_path / "assets").symlink_to(assets)
    (tmp_path / "answers.json").write_text(json.dumps({"schema": 1, "answers": ANSWERS}))
    straight, run = RunDirectory(tmp_path / "straight"), RunDirectory(tmp_path / "a run")

    def replay(at: RunDirectory, *changes: str):
        sets = [part for change in changes for part in ("--set", change)]
        return cli("--replay", "answers.json", "--run-dir", at.path, *sets, cwd=tmp_path, timeout=280)

    def exported(at: RunDirectory, checkpoint: str, *options: str) -> dict[str, torch.Tensor]:
        out = tmp_path / f"{at.path.name} {checkpoint} {options}"
        source = at.path / "checkpoints" / checkpoint
        done = cli("export", source, out, "--unet", "--dtype", "fp32", *options, cwd=tmp_path)
        assert done.returncode == ExitCode.OK, done.stderr
        assert done.stderr == ""
        return {name: weight.detach() for name, weight in UNet2DConditionModel.from_pretrained(out).named_parameters()}

    done = replay(straight)
    assert done.returncode == ExitCode.OK, done.stderr
    shutil.copytree(straight.path, run.path)
    shutil.rmtree(run.path / "checkpoints/checkpoint-5")
    run.events_jsonl.unlink()

    refused = replay(run, "accelerate.zero_stage=3")
    assert refused.returncode == ExitCode.USAGE
    assert "ZeRO stage 2 there, 3 here" in refused.stderr
    command = re.search(r"run: (simpletuner-tui convert .+?) - it makes", refused.stderr)[1]
    _, *typed = shlex.split(command)
    done = cli(*typed, cwd=tmp_path)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout.strip() == str(run.path / "checkpoints/checkpoint-3-universal")
    assert cli(*typed, cwd=tmp_path).returncode == ExitCode.REFUSED_TO_OVERWRITE
    again = replay(run, "accelerate.zero_stage=3")
    assert again.returncode == ExitCode.OK, again.stderr
    assert [event["step"] for event in events(run, "resumed")] == [3]
    assert [event["step"] for event in events(run, "step")] == [4, 5]
    assert events(run, "warning") == []

    saved, there = run.path / "checkpoints/checkpoint-5", tmp_path / "assets"
    assert cli("export", saved, there, cwd=tmp_path).returncode == ExitCode.REFUSED_TO_OVERWRITE
    unnamed = cli("export", saved, tmp_path / "one", "--single-file", cwd=tmp_path)
    assert (unnamed.returncode, "call it one.safetensors" in unnamed.stderr) == (ExitCode.USAGE, True)
    began = exported(straight, "checkpoint-3", "--ema")
    assert_same(exported(run, "checkpoint-3-universal", "--ema"), began)
    average, weights = exported(straight, "checkpoint-5", "--ema"), exported(straight, "checkpoint-5")
    moved = distance(average, began)
    assert distance(average, weights) > 0.1 * moved
    assert distance(exported(run, "checkpoint-5", "--ema"), average) < PARITY * moved
    assert distance(exported(run, "checkpoint-5"), weights) < PARITY * moved
