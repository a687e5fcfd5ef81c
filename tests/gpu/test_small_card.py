"""The true SDXL starts and trains on what a card of 8 GiB has. Skipped where there is no GPU.

Twice over: another process really holds all of the card but 8 GiB before anything is loaded, so that more fails in CUDA
itself, and torch may take no more than what such a card leaves beside a context, from the first phase on.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.runs import cli
from harness.startup import on_a_card_of
from launcher.machine.gpus import read_nvml
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events

ROOT = Path(__file__).parents[2]
NVML = read_nvml()
CARD_MIB = 8 * 1024
BESIDE_TORCH_MIB = 900
"""CUDA's context, kernels, libraries, and page tables of pinned memory."""
STEPS = 2
STAGES = {
    "stage 2": {"accelerate.zero_stage": 2},
    "stage 3": {"accelerate.zero_stage": 3, "accelerate.offload_param": "cpu"},
}
SETTINGS = {
    "accelerate.gas": 1,
    "training.train_batch_size": 1,
    "training.max_train_steps": STEPS,
    "training.lr_warmup_steps": 1,
    "training.num_eval_images": 0,
    "training.num_validation_images": 0,
    "training.export_pipeline": "no",
    "training.checkpoint_contents": "weights",  # 5 GB at the end instead of 36
}
HOLD = """
import sys, torch
free = torch.cuda.mem_get_info()[0]
held = torch.empty(free - int(sys.argv[1]) * 2**20, dtype=torch.uint8, device="cuda")
print(torch.cuda.mem_get_info()[0] // 2**20, flush=True)
sys.stdin.read()
"""

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not NVML.gpus, reason=NVML.reason or "no GPU"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sdxl")
    subprocess.run([sys.executable, ROOT / "benchmarks/random_sdxl.py", folder], check=True)
    return folder


@pytest.fixture
def full_card() -> Iterator[int]:
    """MiB that are left beside a process that holds the rest."""
    command = [sys.executable, "-c", HOLD, str(CARD_MIB)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        left = int(holder.stdout.readline())
        assert CARD_MIB - 64 <= left <= CARD_MIB
        try:
            yield left
        finally:
            holder.stdin.close()  # it ends


@pytest.mark.parametrize("name", STAGES)
def test_it_trains_the_true_sdxl_at_1024_px(name, made, full_card):
    run_dir = made / name.replace(" ", "-")
    chosen = {
        **SETTINGS,
        **STAGES[name],
        "training.pretrained_model_name_or_path": made / "model",
        "training.instance_data_dir": made / "pictures",
        "training.cache_dir": made / "cache",
    }
    sets = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
    done = cli(
        "--replay", ROOT / "examples/sdxl/answers.json", "--run-dir", run_dir, "--force", *sets,
        timeout=500, **on_a_card_of(CARD_MIB - BESIDE_TORCH_MIB),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    events, _ = read_events(RunDirectory(run_dir).events_jsonl)
    (model,) = (event for event in events if event["event"] == "model")
    assert (model["parameters"], model["dtype"]) == (2_567_463_684, "bfloat16")
    steps = [event for event in events if event["event"] == "step"]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert all(0 < step["loss"] < 100 for step in steps)
    phases = {
        event["phase"]: event["vram_mib"] for event in events if event["event"] == "phase" and event.get("vram_mib")
    }
    print(name, "MiB left", full_card, phases, [step["seconds"]["total"] for step in steps])
    assert max(held["process"] for held in phases.values()) <= full_card
    assert phases["engine"]["reserved"] <= CARD_MIB - BESIDE_TORCH_MIB
