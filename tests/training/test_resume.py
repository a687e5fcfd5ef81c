"""A resumed run is the run that was not interrupted, bit for bit: 20 steps equal 10, a new engine, and 10 more.

Compared are every batch drawn, what each step tells, and every value in every file of the last checkpoint:
weights, masters, optimizer state, schedule and counters. CI takes a case of each stage, all but the first of 8 steps:
what a resume loses shows in the next one. `make test-all` takes each stage in both precisions.
"""

import json
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch

from harness.equal import assert_same
from harness.ranks import run_ranks
from harness.tiny_zero import TINY
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.train.deepspeed_engine import TAG

STEPS, FEWER = 20, 8
SWAPS = {
    "stage": 3,
    "precision": "bf16",
    "offload_optimizer_device": "nvme",
    "offload_optimizer_nvme_path": "swap",
    "sub_group_size": 400_000,  # leaves a last group under a MiB, which is not swapped
}
SETTINGS = {
    "zero1-fp32": {"stage": 1, "precision": "no"},
    "zero2-bf16": {"stage": 2, "precision": "bf16", "scheduler_type": "WarmupCosineLR"},
    "zero3-bf16": {"stage": 3, "precision": "bf16", "offload_param_device": "cpu"},
    "zero3-nvme": {
        **SWAPS,
        "offload_param_device": "nvme",
        "offload_param_nvme_path": "swap",
        "offload_param_buffer_size": 1_000_000,
    },
    "zero3-lora": {"stage": 3, "precision": "bf16", "offload_param_device": "cpu"},
    "zero2-lora": {"stage": 2, "precision": "bf16"},
    "zero1-bf16": {"stage": 1, "precision": "bf16", "gradient_accumulation_steps": 2},
    "zero2-fp32": {"stage": 2, "precision": "no", "gradient_accumulation_steps": 2},
    "zero3-fp32": {"stage": 3, "precision": "no", "scheduler_type": "WarmupDecayLR"},
    "zero3-nvme-muon": {**SWAPS, "optimizer_type": "Muon"},
    "zero1-groups": {"stage": 1, "precision": "bf16"},
    "zero3-nvme-groups": SWAPS,
}
WITH_GROUPS = ("zero2-bf16", "zero3-bf16", "zero1-groups", "zero3-nvme-groups")
"""Norms and biases are a group of their own there, which does not decay."""
IN_CI = tuple(SETTINGS)[:5]
CASE_STEPS = {name: STEPS if name == IN_CI[0] or name not in IN_CI else FEWER for name in SETTINGS}
LORA = {"model_type": "lora", "lora_rank": 4, "lora_dropout": 0.2}
"""What is dropped follows from the step too."""
CASES = [pytest.param(name, marks=[] if name in IN_CI else [pytest.mark.exhaustive], id=name) for name in SETTINGS]


def config(**settings) -> dict:
    chosen = DeepSpeedSettings(**{**TINY, **settings})
    return to_deepspeed_json(chosen, train_batch_size=2, learning_rate=1e-3, warmup_steps=3, total_steps=STEPS)


@pytest.fixture(scope="session")
def resumed(assets, cache_dir, async_io, tmp_path_factory):
    """Folders of trained cases, by whether CI takes them: one process goes through a whole group."""

    @cache
    def train(in_ci: bool):
        folder = tmp_path_factory.mktemp("resume")
        cases = {
            name: {
                "steps": CASE_STEPS[name],
                "precision": some["precision"],
                "config": config(**some),
                "weight_decay_exclude": "norms_and_biases" if name in WITH_GROUPS else "none",
                "lora": LORA if "lora" in name else {},
            }
            for name, some in SETTINGS.items()
            if (name in IN_CI) is in_ci
        }
        job = {
            "model": str(assets / "model"),
            "pictures": str(assets / "pictures"),
            "cache": str(cache_dir),
            "resolution": 32,
            "seed": 11,
            "cases": cases,
        }
        with tempfile.TemporaryDirectory(dir="/dev/shm") as swap:  # where memory may be aligned to anything
            run_ranks("harness.many_resumes", json.loads(json.dumps(job).replace('"swap"', json.dumps(swap))), folder)
        return folder

    return train


@pytest.mark.parametrize("case", CASES)
def test_steps_equal_half_of_them_a_resume_and_the_others(resumed, case):
    folder, steps = resumed(case in IN_CI) / case, CASE_STEPS[case]
    told = json.loads((folder / "told.json").read_text())
    straight, first, second = told["straight"], told["first"], told["second"]
    assert (straight["from"], first["from"], second["from"]) == (0, 0, steps // 2)
    assert [step["step"] for step in straight["steps"]] == list(range(1, steps + 1))
    assert first["batches"] + second["batches"] == straight["batches"]
    assert len(set(straight["batches"])) == len(straight["batches"])
    assert first["steps"] + second["steps"] == straight["steps"]
    last = folder / f"resumed/checkpoints/checkpoint-{steps}" / TAG
    same = folder / f"straight/checkpoints/checkpoint-{steps}" / TAG
    names = files_below(same)
    assert names == files_below(last)
    for name in names:
        if name.endswith(".swp"):  # raw, as it lay on the drive
            assert (same / name).read_bytes() == (last / name).read_bytes(), name
            continue
        one, other = (without_paths(torch.load(folder / name, weights_only=False)) for folder in (same, last))
        assert_same(one, other, name)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def without_paths(state: dict) -> dict:
    """A saved state without where its run swapped to, which is each run's own."""
    for part in ("offload_optimizer", "offload_param"):
        state["ds_config"]["zero_optimization"].get(part, {}).pop("nvme_path", None)
    return state


def test_what_stays_in_memory_and_what_is_swapped_is_both_resumed(resumed):
    names = files_below(resumed(True) / "zero3-nvme/resumed/checkpoints" / f"checkpoint-{FEWER}" / TAG)
    assert sum(name.endswith(".swp") for name in names) == 3 * 4  # master and two moments of four groups out of five
