"""``python benchmarks/sdxl_agreement.py OUT [ONE ...]``: the true SDXL trained in several ways that have to agree.

SDXL's architecture with random weights and pictures of four aspects are made in OUT, then 20 steps of eight pictures at
1024 px are trained: ZeRO-2 and ZeRO-3 with offload on one GPU, ZeRO-2 killed (SIGKILL, every process) after step 12 and
started again, and ZeRO-2 and ZeRO-3 on two GPUs at the same global batch. Runs on one GPU go side by side, one to a GPU. OUT/agreement.json has every loss; what was exported is loaded by diffusers and held against the checkpoint.

A run takes 70 GB of host memory, a checkpoint 36 GB of disk; OUT should take two of them.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from threading import Lock

import psutil
import torch
from diffusers import UNet2DConditionModel

from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events

ROOT = Path(__file__).parents[1]
STEPS, SAVED, KILLED = 20, 10, 12
COMMON = {
    "training.resolution": 1024,
    "training.max_train_steps": STEPS,
    "training.train_batch_size": 8,
    "training.lr_warmup_steps": 5,
    "training.learning_rate": 1e-5,
    "training.checkpointing_steps": STEPS,
    "training.checkpoints_total_limit": 1,
    "training.num_eval_images": 0,
    "training.num_validation_images": 0,
    "training.export_pipeline": "no",
    "accelerate.gas": 1,
}
ZERO3 = {"accelerate.zero_stage": 3, "accelerate.offload_param": "cpu"}
TWO = {"accelerate.machine": "multi-GPU", "accelerate.num_processes": 2, "training.train_batch_size": 4}
RUNS = {
    "zero2": {},
    "zero3": ZERO3,
    "zero2-killed": {"training.checkpointing_steps": SAVED, "training.export_pipeline": "yes"},
    "two-zero2": TWO,
    "two-zero3": {**TWO, **ZERO3},
}
ON_TWO = ("two-zero2", "two-zero3")


def told(run: RunDirectory, name: str) -> list[dict]:
    return [event for event in read_events(run.events_jsonl)[0] if event["event"] == name]


def start(out: Path, name: str, gpu: str | None) -> subprocess.Popen:
    chosen = COMMON | RUNS[name]
    sets = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
    command = [
        sys.executable, "-c", "from simpletuner_tui.cli import main; raise SystemExit(main())", "--replay", ROOT / "examples/sdxl/answers.json",
        "--run-dir", out / name, "--force", *sets,
        "--set", f"training.pretrained_model_name_or_path={out / 'model'}",
        "--set", f"training.instance_data_dir={out / 'pictures'}",
    ]  # fmt: skip
    environment = os.environ | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})
    with (out / f"{name}.txt").open("ab") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def kill_at(run: RunDirectory, step: int, following: subprocess.Popen) -> None:
    while not any(event["step"] >= step for event in told(run, "step")):
        if following.poll() is not None:
            return
        time.sleep(0.2)
    for process in psutil.process_iter(["cmdline"]):
        if str(run.path) in (process.info["cmdline"] or []):
            process.send_signal(signal.SIGKILL)
    following.wait()


def train(out: Path, name: str, gpu: str | None, caching: Lock) -> dict:
    run = RunDirectory(out / name)
    with caching:  # the caches are shared: one run makes them
        following = start(out, name, gpu)
        while following.poll() is None and not told(run, "data"):
            time.sleep(0.2)
    if name != "zero2-killed":
        return finish(out, name, following)
    kill_at(run, KILLED, following)
    before = {event["step"]: event["loss"] for event in told(run, "step")}
    result = finish(out, name, start(out, name, gpu))
    again = {step: loss for step, loss in enumerate(result["losses"], 1) if SAVED < step <= max(before)}
    result["killed_after"] = max(before)
    result["repeated_steps_apart"] = apart(list(again.values()), [before[step] for step in again])
    result["exported"] = exported(out)
    print(name, "killed after", max(before), "exported", result["exported"], flush=True)
    return result


def finish(out: Path, name: str, following: subprocess.Popen) -> dict:
    code = following.wait()
    run = RunDirectory(out / name)
    steps = told(run, "step")
    losses = {event["step"]: event["loss"] for event in steps}
    result = {
        "code": code,
        "losses": [losses[step] for step in sorted(losses)],
        "seconds": [event["seconds"]["total"] for event in steps][-5:],
        "vram_mib": steps[-1]["vram_mib"] if steps else None,
        "rss_mib": steps[-1]["rss_mib"] if steps else None,
        "phases": {event["phase"]: event["seconds"] for event in told(run, "phase") if event["state"] == "end"},
        "buckets": told(run, "buckets")[-1:],
        "resumed": [event["step"] for event in told(run, "resumed")],
        "end": told(run, "end")[-1:],
    }
    if code:
        result["log"] = (out / f"{name}.txt").read_text()[-1500:]
    print(name, json.dumps(result), flush=True)
    if name != "zero2-killed":
        shutil.rmtree(run.path / "checkpoints", ignore_errors=True)
    return result


def apart(one: list[float], other: list[float]) -> float:
    """The largest relative difference of two runs' losses."""
    return max(abs(a - b) / abs(b) for a, b in zip(one, other, strict=True)) if one and other else float("nan")


def exported(out: Path) -> dict:
    """Whether diffusers loads what was exported, and predicts what the checkpoint's own weights predict."""
    run = out / "zero2-killed"
    saved = torch.load(
        next((run / f"checkpoints/checkpoint-{STEPS}").rglob("mp_rank_00_model_states.pt")),
        map_location="cpu", weights_only=False, mmap=True,
    )["module"]  # fmt: skip
    unet = UNet2DConditionModel.from_pretrained(run / "pipeline/unet", torch_dtype=torch.bfloat16)
    equal = all(torch.equal(weight, saved[name]) for name, weight in unet.named_parameters())
    inputs = {
        "sample": torch.randn(1, 4, 128, 128),
        "encoder_hidden_states": torch.randn(1, 77, 2048),
        "added_cond_kwargs": {"text_embeds": torch.randn(1, 1280), "time_ids": torch.rand(1, 6) * 1024},
    }
    on_gpu = torch.utils._pytree.tree_map(lambda tensor: tensor.to("cuda", torch.bfloat16), inputs)
    predictions = []
    for weights in (None, saved):
        if weights is not None:
            unet.load_state_dict(weights)
        with torch.no_grad():
            predictions.append(unet.to("cuda")(timestep=500, return_dict=False, **on_gpu)[0])
    return {"equal": equal, "apart": float((predictions[0] - predictions[1]).abs().max())}


def main() -> None:
    out = Path(sys.argv[1]).resolve()
    wanted = sys.argv[2:] or list(RUNS)
    subprocess.run([sys.executable, ROOT / "benchmarks/random_sdxl.py", out], check=True)
    print("made", flush=True)
    kept = out / "agreement.json"
    results: dict[str, dict] = json.loads(kept.read_text()) if kept.exists() else {}
    gpus: Queue[str] = Queue()
    for gpu in range(torch.cuda.device_count()):
        gpus.put(str(gpu))
    caching = Lock()

    def on_one_gpu(name: str) -> None:
        gpu = gpus.get()
        results[name] = train(out, name, gpu, caching)
        gpus.put(gpu)

    with ThreadPoolExecutor(torch.cuda.device_count()) as pool:
        list(pool.map(on_one_gpu, [name for name in wanted if name not in ON_TWO]))
    for name in [name for name in wanted if name in ON_TWO]:
        results[name] = train(out, name, None, caching)
    first = results.get("zero2", {}).get("losses", [])
    for name, result in results.items():
        print(f"{name}: losses apart from zero2 by {apart(result['losses'], first):.2e}", flush=True)
    kept.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
