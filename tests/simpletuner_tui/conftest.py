"""What the command line is tried on: a model that is all header, and one real run of the demo's tiny SDXL."""

import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.fake_model import write_model, write_pictures
from harness.runs import CLI, end_run, events, wait_for
from harness.terminal import Terminal
from launcher.runs.directory import RunDirectory
from launcher.runs.state import RunStatus, status

ROOT = Path(__file__).parents[2]
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


@dataclass
class RealRun:
    """A run of the tiny SDXL that was replayed, abandoned in every way, and followed to its end."""

    home: Path
    run: RunDirectory
    seen: dict[str, str]
    """What each terminal showed."""
    codes: dict[str, int]
    left: dict[str, RunStatus]
    """What the run was after each of them."""


@pytest.fixture(scope="session")
def real_run(assets, tmp_path_factory) -> RealRun:
    """One real run for all tests: its replaying process is killed, then terminals attach and leave."""
    home = tmp_path_factory.mktemp("real") / "tiny"
    home.mkdir()
    shutil.copy(ROOT / "examples/demo/answers.json", home)
    (home / "assets").symlink_to(assets)
    (home / "examples").symlink_to(ROOT / "examples")
    changes = {
        "resolution": 32,
        "max_train_steps": 20,
        "checkpointing_steps": 10,
        "lr_warmup_steps": 5,
        "num_eval_images": 4,
        "num_validation_images": 0,
        "cpu_threads": 1,
    }
    sets = [part for key, value in changes.items() for part in ("--set", f"training.{key}={value}")]
    real = RealRun(home, RunDirectory(home), {}, {}, {})

    def open_terminal(name: str, *command: str) -> Terminal:
        terminals[name] = Terminal(CLI, *command, cwd=home)
        return terminals[name]

    def closed(name: str) -> None:
        real.codes[name] = terminals[name].wait()
        real.seen[name] = terminals[name].seen
        real.left[name] = status(real.run)

    terminals: dict[str, Terminal] = {}
    try:
        replay = open_terminal("killed", "--replay", "answers.json", *sets)
        replay.read_until(" in /")
        (path,) = (home / "runs").glob("tiny-*")
        real.run = RunDirectory(path)
        replay.read_until("processes meet")
        os.kill(replay.process.pid, signal.SIGKILL)
        closed("killed")
        open_terminal("hung up", "attach", path.name, "--plain").read_until("processes meet")
        terminals["hung up"].hang_up()
        closed("hung up")
        open_terminal("interrupted", "attach", str(path), "--plain").read_until("processes meet")
        terminals["interrupted"].interrupt()
        closed("interrupted")
        open_terminal("to the end", "attach", path.name, "--plain", "--refresh", "0.05")
        terminals["to the end"].wait(180)
        closed("to the end")
        wait_for(lambda: events(real.run, "end"))
        return real
    finally:
        for terminal in terminals.values():
            terminal.close()
        if real.run.plan_json.exists():
            end_run(real.run)
