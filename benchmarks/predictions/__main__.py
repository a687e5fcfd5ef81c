"""``python -m benchmarks.predictions OUT [NAME ...]``: what settings take on the GPUs at hand.

SDXL's true architecture with random weights and square pictures are made in OUT; every setting trains a few steps through
the command a person types, in processes of its own, one setting on each GPU side by side. OUT/measured.json gets what
the run itself tells (its events), what NVML says from outside every 20 ms, and the machine. The table beside
predictions is made by ``python -m benchmarks.predictions.table``, on any machine.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from queue import Queue
from threading import Event, Lock, Thread
from typing import Any

import psutil
import pynvml
import torch

from benchmarks.predictions.settings import CALIBRATION, HOLD_OUT, PRESETS
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events

ROOT = Path(__file__).parents[2]
MIB = 2**20
LONGEST = 280.0
"""Seconds of a setting."""
INTERVAL = 0.02
"""Seconds between two looks from outside."""


class Sampler:
    """The GPUs' used memory beyond what it was before, at the most, and the run's host memory."""

    def __init__(self, gpus: list[int], run: Path) -> None:
        self._handles = [pynvml.nvmlDeviceGetHandleByIndex(gpu) for gpu in gpus]
        self._run, self._over = str(run), Event()
        self._before = [self._used(handle) for handle in self._handles]
        self.gpu_mib = [0] * len(gpus)
        self.rss_mib = 0
        self._threads = [Thread(target=self._gpus), Thread(target=self._host)]

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        yield
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _gpus(self) -> None:
        while not self._over.wait(INTERVAL):
            for place, handle in enumerate(self._handles):
                self.gpu_mib[place] = max(self.gpu_mib[place], self._used(handle) - self._before[place])

    def _host(self) -> None:
        """Of the training processes alone."""
        while not self._over.wait(0.5):
            resident = 0
            for process in psutil.process_iter(["cmdline", "memory_info"]):
                line = process.info["cmdline"] or []
                if self._run in line and "launcher.train" in line and "accelerate.commands.launch" not in line:
                    resident += process.info["memory_info"].rss // MIB
            self.rss_mib = max(self.rss_mib, resident)

    @staticmethod
    def _used(handle: Any) -> int:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used // MIB)


def told(run: RunDirectory, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(run.events_jsonl)[0] if event["event"] == name]


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
    share = (psutil.cpu_count() or 1) // torch.cuda.device_count()
    cores = ",".join(f"{gpu * share}-{gpu * share + share - 1}" for gpu in gpus)
    command = [
        "taskset", "-c", cores, sys.executable, "-c",
        "from simpletuner_tui.cli import main; raise SystemExit(main())",
        "--replay", folder / "answers.json", "--run-dir", run.path, "--force",
    ]  # fmt: skip
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
    sampler, began = Sampler(gpus, run.path), time.monotonic()
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
        "from_outside_mib": sampler.gpu_mib,
        "from_outside_rss_mib": sampler.rss_mib,
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
    subprocess.run([sys.executable, ROOT / "benchmarks/random_sdxl.py", out], check=True)
    (out / "square").mkdir(exist_ok=True)
    for file in (out / "pictures").glob("0[0-7].*"):  # the first eight are square
        for copy in range(4):
            shutil.copy(file, out / "square" / f"{copy}-{file.name}")
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
    }
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
