"""Another ZeRO stage for a run, through the command line: refused with a command, which is all that it takes."""

import json
import re
import shlex

import pytest
from diffusers import UNet2DConditionModel

from harness.runs import cli, events
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
    "training.max_train_steps": 3,
    "accelerate.use_cpu": True,
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 2,
    "accelerate.mixed_precision": "bf16",
}


@pytest.mark.exhaustive
def test_the_command_that_a_refusal_names_is_all_it_takes(assets, tmp_path):
    (tmp_path / "assets").symlink_to(assets)
    (tmp_path / "answers.json").write_text(json.dumps({"schema": 1, "answers": ANSWERS}))
    run = RunDirectory(tmp_path / "a run")

    def replay(*changes: str):
        sets = [part for change in changes for part in ("--set", change)]
        return cli("--replay", "answers.json", "--run-dir", "a run", *sets, cwd=tmp_path, timeout=280)

    assert replay().returncode == ExitCode.OK
    changed = ("accelerate.zero_stage=3", "training.max_train_steps=5")
    refused = replay(*changed)
    assert refused.returncode == ExitCode.USAGE
    assert "ZeRO stage 2 there, 3 here" in refused.stderr
    command = re.search(r"run: (simpletuner-tui convert .+?) - it makes", refused.stderr)[1]
    _, *typed = shlex.split(command)
    done = cli(*typed, cwd=tmp_path)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout.strip() == str(run.path / "checkpoints/checkpoint-3-universal")
    assert cli(*typed, cwd=tmp_path).returncode == ExitCode.REFUSED_TO_OVERWRITE
    again = replay(*changed)
    assert again.returncode == ExitCode.OK, again.stderr
    assert [event["step"] for event in events(run, "resumed")] == [3]
    assert [event["step"] for event in events(run, "step")] == [1, 2, 3, 4, 5]
    saved = str(run.path / "checkpoints/checkpoint-5")
    done = cli("export", saved, "out", "--unet", "--dtype", "fp32", cwd=tmp_path)
    assert done.returncode == ExitCode.OK, done.stderr
    UNet2DConditionModel.from_pretrained(tmp_path / "out")
    assert cli("export", saved, "out", cwd=tmp_path).returncode == ExitCode.REFUSED_TO_OVERWRITE
