"""On a real NVIDIA GPU: the demo, and the true SDXL for a few steps. Skipped where there is none."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.runs import cli
from launcher.machine.gpus import read_nvml
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events

ROOT = Path(__file__).parents[2]
NVML = read_nvml()

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not NVML.gpus, reason=NVML.reason or "no GPU"),
    pytest.mark.timeout(900),
]


def events_of(run_dir: Path, kind: str) -> list[dict]:
    return [event for event in read_events(RunDirectory(run_dir).events_jsonl)[0] if event["event"] == kind]


def ended(run_dir: Path) -> list[dict]:
    """The phases that are over."""
    return [event for event in events_of(run_dir, "phase") if event["state"] == "end"]


def report(run_dir: Path) -> None:
    """What a closing note needs; shown with ``-s``."""
    for event in events_of(run_dir, "model") + events_of(run_dir, "evaluation") + events_of(run_dir, "checkpoint"):
        print(event)
    phases = {event["phase"]: event["seconds"] for event in ended(run_dir)}
    print("phases", phases)
    for event in events_of(run_dir, "step")[-5:]:
        print({key: event[key] for key in ("step", "loss", "grad_norm", "seconds", "vram_mib", "rss_mib")})


def test_the_demo_runs_on_the_gpu(assets, tmp_path):
    run_dir = tmp_path / "demo"
    done = cli(
        "--replay", ROOT / "examples/demo/answers.json", "--run-dir", run_dir,
        "--set", f"training.pretrained_model_name_or_path={assets / 'model'}",
        "--set", f"training.instance_data_dir={assets / 'pictures'}",
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report(run_dir)
    (model,) = events_of(run_dir, "model")
    assert model["device"] == NVML.gpus[0].name
    assert model["attention"] == "flash"
    before, after = (event["loss"] for event in events_of(run_dir, "evaluation"))
    assert after < 0.5 * before
    assert events_of(run_dir, "step")[-1]["vram_mib"][0]["peak"] > 0
    assert (run_dir / "samples/grid.png").is_file()
    assert (run_dir / "pipeline/unet/diffusion_pytorch_model.safetensors").is_file()


def test_the_true_sdxl_trains_at_1024_px_from_its_caches(tmp_path):
    made = tmp_path / "sdxl"
    subprocess.run([sys.executable, ROOT / "benchmarks/random_sdxl.py", made], check=True)
    run_dir = tmp_path / "run"
    done = cli(
        "--replay", ROOT / "examples/sdxl/answers.json", "--run-dir", run_dir,
        "--set", f"training.pretrained_model_name_or_path={made / 'model'}",
        "--set", f"training.instance_data_dir={made / 'pictures'}",
        "--set", "training.max_train_steps=5", "--set", "training.lr_warmup_steps=1",
        "--set", "training.train_batch_size=8", "--set", "accelerate.gas=1",
        "--set", "training.num_validation_images=0",
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report(run_dir)
    steps = events_of(run_dir, "step")
    assert [step["step"] for step in steps] == [1, 2, 3, 4, 5]
    assert all(0 < step["loss"] < 100 for step in steps)
    (model,) = events_of(run_dir, "model")
    assert (model["parameters"], model["zero_stage"], model["dtype"]) == (2_567_463_684, 2, "bfloat16")
    (checkpoint,) = events_of(run_dir, "checkpoint")
    assert checkpoint["bytes"] > 14 * 2_567_463_684
    held = {event["phase"]: event["vram_mib"]["reserved"] for event in ended(run_dir) if "vram_mib" in event}
    assert held["captions"] < 1600  # of 3,119 that the text encoders' weights take
    assert held["latents"] < 2200
