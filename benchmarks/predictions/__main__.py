"""``python -m benchmarks.predictions OUT [NAME ...]``: what settings take on the GPUs at hand; all of them without NAME.

SDXL's true architecture with random weights and square pictures are made in OUT; every setting trains a few steps through
the command a person types, in processes of its own, one setting on each GPU side by side. OUT/measured.json gets what
the run itself tells (its events), what NVML says from outside every 20 ms, and the machine with its bandwidths. What is
there already is not measured again. ``python -m benchmarks.predictions.keep OUT/measured.json`` makes data of it, and
``python -m benchmarks.predictions.table`` a table beside predictions, on any machine.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Any

import psutil
import pynvml
import torch

from benchmarks.making import make_sdxl
from benchmarks.predictions.settings import CALIBRATION, HOLD_OUT, PRESETS
from benchmarks.sampling import Sampler
from launcher.machine.gpus import read_nvml
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events

LONGEST = 280.0
"""Seconds of a setting."""
LAUNCH = "accelerate.commands.launch"
"""In the command line of what starts the training processes, beside theirs."""
COPIES = 4
"""Of each of the eight square pictures: more than any setting's step takes."""


def told(run: RunDirectory, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(run.events_jsonl)[0] if event["event"] == name]


def on_cores(gpus: list[int]) -> list[str]:
    """The beginning of a command that has the share of the cores which these GPUs are of all."""
    share = (psutil.cpu_count() or 1) // torch.cuda.device_count()
    return ["taskset", "-c", ",".join(f"{gpu * share}-{gpu * share + share - 1}" for gpu in gpus)]


def bandwidths(out: Path, gpus: int) -> Any:
    """Of so many GPUs and their share of the cores, as ``launcher.probes.bandwidths`` tells."""
    file, threads = out / "bandwidths.json", (psutil.cpu_count(logical=False) or 1) // torch.cuda.device_count() * gpus
    probe = [sys.executable, "-m", "launcher.probes.bandwidths", file, "--threads", str(threads)]
    subprocess.run([*on_cores(list(range(gpus))), *probe], check=True)
    return json.loads(file.read_bytes())


def measure(out: Path, name: str, answers: dict[str, Any], gpus: list[int]) -> dict[str, Any]:
    """Trains one setting on these GPUs."""
    folder = out / name.replace(" ", "-")
    folder.mkdir()
    places = {
        "training.pretrained_model_name_or_path": str(out / "model"),
        "training.instance_data_dir": str(out / "square"),
        "training.cache_dir": str(folder / "cache"),
    }
    (folder / "answers.json").write_text(json.dumps({"schema": 1, "answers": answers | places}))
    run = RunDirectory(folder / "run")
    command = [
        *on_cores(gpus), sys.executable, "-c",
        "from simpletuner_tui.cli import main; raise SystemExit(main())",
        "--replay", folder / "answers.json", "--run-dir", run.path, "--force",
    ]  # fmt: skip
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
    uuids, path = [read_nvml().gpus[gpu].uuid for gpu in gpus], str(run.path)
    sampler = Sampler(uuids, lambda line: path in line and "launcher.train" in line and LAUNCH not in line)
    began = time.monotonic()
    with (folder / "log.txt").open("wb") as log, sampler.running():
        try:
            code = subprocess.run(
                command, env=environment, stdout=log, stderr=log, timeout=LONGEST, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
            for process in psutil.process_iter(["cmdline"]):
                if str(run.path) in (process.info["cmdline"] or []):
                    process.kill()
    steps = told(run, "step")
    ended = [event for event in told(run, "phase") if event["state"] == "end"]
    result = {
        "answers": answers,
        "gpus": len(gpus),
        "code": code,
        "took": round(time.monotonic() - began, 1),
        "from_outside_mib": sampler.device_mib(),
        "from_outside_rss_mib": sampler.host_mib,
        "phases": [{key: event.get(key) for key in ("phase", "seconds", "vram_mib", "rss_mib")} for event in ended],
        "cost": told(run, "cost")[-1:],
        "steps": [{key: event[key] for key in ("seconds", "vram_mib", "rss_mib")} for event in steps],
        "warnings": [event["message"] for event in told(run, "warning")],
    }
    if code:
        result["log"] = (folder / "log.txt").read_text()[-1500:]
    shutil.rmtree(folder, ignore_errors=True)
    print(
        name,
        json.dumps({key: result[key] for key in ("code", "took", "from_outside_mib", "from_outside_rss_mib")}),
        flush=True,
    )
    if code:
        print(result["log"], flush=True)
    return result


def main() -> None:
    out = Path(sys.argv[1]).resolve()
    every = CALIBRATION | HOLD_OUT | PRESETS
    wanted = sys.argv[2:] or list(every)
    out.mkdir(parents=True, exist_ok=True)
    make_sdxl(out, COPIES)
    print("made", flush=True)
    pynvml.nvmlInit()
    kept, lock = Path(os.environ.get("OUT", out)) / "measured.json", Lock()
    results = json.loads(kept.read_text()) if kept.exists() else {"settings": {}}
    results["machine"] = {
        "gpu": torch.cuda.get_device_name(),
        "gpus": torch.cuda.device_count(),
        "driver": pynvml.nvmlSystemGetDriverVersion(),
        "cores": psutil.cpu_count(logical=False),
        **{package: version(package) for package in ("torch", "deepspeed", "diffusers")},
        "day": date.today().isoformat(),
        "bandwidths": {str(count): bandwidths(out, count) for count in {1, min(2, torch.cuda.device_count())}},
    }
    wanted = [name for name in wanted if results["settings"].get(name, {}).get("code") != 0]
    gpus: Queue[int] = Queue()
    for gpu in range(torch.cuda.device_count()):
        gpus.put(gpu)

    def keep(name: str, result: dict[str, Any]) -> None:
        with lock:
            results["settings"][name] = result
            kept.write_text(json.dumps(results, indent=1))

    def on_one(name: str) -> None:
        gpu = gpus.get()
        try:
            keep(name, measure(out, name, every[name], [gpu]))
        finally:
            gpus.put(gpu)

    of_two = [name for name in wanted if "accelerate.num_processes" in every[name]]
    with ThreadPoolExecutor(torch.cuda.device_count()) as pool:
        list(pool.map(on_one, [name for name in wanted if name not in of_two]))
    if torch.cuda.device_count() > 1:
        for name in of_two:
            keep(name, measure(out, name, every[name], [0, 1]))


if __name__ == "__main__":
    main()
