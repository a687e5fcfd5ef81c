"""The DeepSpeed builder from a walk in lines: real processes, answers from a pipe."""

import json
import subprocess
from pathlib import Path

import pytest

from harness.fake_model import write_model
from harness.runs import CLI

LEAST = ("./model", "", "", "", "", "./pictures", "rest")
"""Lines to the end of a walk with DeepSpeed at its defaults, from the first question."""


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    write_model(tmp_path / "model")
    (tmp_path / "pictures").mkdir()
    return tmp_path


def walked(home: Path, *typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CLI, "--accessible"],
        input="".join(f"{line}\n" for line in typed),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def with_deepspeed(home: Path, *typed: str) -> tuple[subprocess.CompletedProcess[str], dict]:
    """Says yes to DeepSpeed by its number in the list, does what is typed, and saves."""
    listed = walked(home, *LEAST, "list", "quit").stdout
    (line,) = (line for line in listed.splitlines() if "accelerate.use_deepspeed:" in line)
    number = line.partition(".")[0].strip()
    done = walked(home, *LEAST, number, "yes", *typed, "save answers.json", "quit")
    return done, json.loads((home / "answers.json").read_text())["answers"]


def test_what_is_applied_becomes_answers(home):
    done, answers = with_deepspeed(
        home, "build", "set zero_optimization.stage 3", "set round_robin_gradients true", "apply"
    )
    assert done.returncode == 0, done.stderr
    assert "Applied." in done.stdout
    assert "Changed: accelerate.zero_stage" in done.stdout
    assert answers["accelerate.zero_stage"] == 3
    assert answers["deepspeed.extra"] == {"zero_optimization": {"round_robin_gradients": True}}


def test_what_deepspeed_would_stop_at_is_not_applied_and_a_copy_may_be_saved(home):
    done, answers = with_deepspeed(home, "build", "set allgather_bucket_size 7", "apply", "save", "yes", "quit")
    assert "mend the errors first" in done.stdout
    assert "Nothing was applied." in done.stdout
    assert json.loads((home / "deepspeed.json").read_text())["zero_optimization"]["allgather_bucket_size"] == 7
    assert answers["deepspeed.zero_optimization.allgather_bucket_size"] == 50_000_000


def test_without_deepspeed_there_is_nothing_to_build(home):
    done = walked(home, *LEAST, "build", "quit")
    assert "DeepSpeed is not used with these answers: there is nothing to build" in done.stdout
