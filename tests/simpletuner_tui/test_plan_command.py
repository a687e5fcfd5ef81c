"""``plan`` as a process: what it prints, writes and ends with."""

import json
from pathlib import Path

import pytest

from harness.fake_model import write_model, write_pictures
from harness.runs import cli

TWELVE = ("plan", "--vram", "12GiB", "--ram", "64GiB", "--disk", "100GiB", "--resolution", "1024")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # no GPU here, whichever machine it is
    return tmp_path


def test_it_chooses_tells_why_and_writes_answers_that_replay(home):
    done = cli(*TWELVE, "--output", "answers.json", cwd=home)
    assert (done.returncode, "written to answers.json" in done.stderr) == (0, True)
    said = done.stdout.splitlines()
    assert said[0] == "Of 12.0 GiB of VRAM, 64.0 GiB of host RAM and 100.0 GiB of disk:"
    assert said[1] == "  ZeRO stage 2, optimizer on the CPU, batch 7, all blocks recomputed"
    assert "  batch 8" in said[said.index("Why nothing faster:") :]
    answers = json.loads((home / "answers.json").read_text())["answers"]
    assert answers["accelerate.zero_stage"] == 2, "what was decided is said, though it is the default"
    write_model(home / "model")
    write_pictures(home / "pictures")
    own = ("--set", "training.pretrained_model_name_or_path=./model", "--set", "training.instance_data_dir=./pictures")
    replayed = cli("--replay", "answers.json", *own, "--set", "training.resolution=64", "--dry-run", "--json", cwd=home)
    deepspeed = json.loads(json.loads(replayed.stdout)["files"]["deepspeed.json"])
    assert deepspeed["train_micro_batch_size_per_gpu"] == 7
    assert deepspeed["zero_optimization"]["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert deepspeed["gradient_clipping"] == 1.0
    again = cli(*TWELVE, "--batch", "2", "--output", "answers.json", cwd=home)
    assert (again.returncode, "--force replaces it" in again.stderr) == (4, True)


def test_a_machine_reads_the_same(home):
    options = ("--vram", "11GiB", "--accumulation", "2", "--json", "--set", "training.use_ema=true")
    told = json.loads(cli(*TWELVE, *options, cwd=home).stdout)
    assert told["budget"] == {"vram_mib": 11264, "ram_mib": 65536, "disk_mib": 102400}
    assert (told["chosen"]["zero_stage"], told["chosen"]["gradient_accumulation_steps"]) == (2, 2)
    assert told["chosen"]["estimate"]["host_mib"] * 1.02 < 65536
    assert told["answers"]["training.use_ema"] is True
    assert {miss["budget"] for each in told["refused"] for miss in each["missed"]} == {"VRAM"}
    assert told["nearest"] is told["instead"] is None


def test_an_impossible_budget_names_the_smallest_that_works(home):
    done = cli("plan", "--vram", "1GiB", "--ram", "64GiB", "--disk", "100GiB", "--output", "answers.json", cwd=home)
    assert (done.returncode, done.stderr) == (3, "error: nothing fits this budget\n")
    said = done.stdout.splitlines()
    where = said.index("The smallest that works:")
    assert said[where + 1].startswith("  ZeRO stage 3, optimizer and weights on the CPU, batch 1")
    assert said[where + 2] == "    needs 2.1 GiB of VRAM while training, 1.0 GiB are there: 1.1 GiB short"
    assert not (home / "answers.json").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "--vram is needed, such as --vram 12GiB: there is no GPU here"),
        (("--vram", "12"), "a size with its unit is needed, such as 12GiB, 11500MiB or 12.9GB, not 12"),
        (("--vram", "12GiB", "--batch", "0"), "a whole number from 1 is needed"),
        (("--vram", "12GiB", "--resolution", "9"), "training.resolution: must be at least 16 px, not 9"),
        (("--vram", "12GiB", "--set", "training.nonsense=1"), "training.nonsense: no question has this id"),
        (("--vram", "12GiB", "--set", "accelerate.use_cpu=yes"), "nothing is to be fitted to a GPU"),
    ],
)
def test_what_means_nothing_is_a_usage_error(home, options, said):
    done = cli("plan", *options, cwd=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
