"""What the command line is tried on: a model that is all header."""

import json
from pathlib import Path

import pytest

from harness.fake_model import write_model, write_pictures

LEAST = {
    "training.pretrained_model_name_or_path": "./model",
    "training.instance_data_dir": "./pictures",
    "training.resolution": 64,
    "accelerate.use_cpu": True,
    "accelerate.use_deepspeed": True,
    "accelerate.offload_optimizer": "cpu",
    "accelerate.mixed_precision": "bf16",
}
"""Answers that this machine, whichever it is, can run with the model and pictures of ``home``."""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder with answers.json, a model and pictures, and no runs before."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "cats"
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    (folder / "answers.json").write_text(json.dumps({"schema": 1, "answers": LEAST}))
    return folder
