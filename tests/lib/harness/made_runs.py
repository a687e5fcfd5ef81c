"""Run directories as a training leaves them, without a training: any length, any number of GPUs, any state."""

import fcntl
import json
import math
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from launcher.config.accelerate import LaunchSettings
from launcher.config.settings import Settings
from launcher.config.training import DataSettings, ModelSettings, TrainingSettings
from launcher.machine.sample import DiskSample, GpuSample, HostSample, Sample, TreeSample
from launcher.plan import make_plan
from launcher.runs.directory import RunDirectory, create
from launcher.runs.outcome import Outcome, write_outcome
from launcher.runs.processes import ProcessIdentity
from launcher.runs.readings import ReadingsFile
from launcher.runs.state import RunState, write_state

BEGAN = 1_800_000_000.0
"""Seconds since the epoch: 15 January 2027, 8:00 UTC."""
PHASES = (("join", 3.1), ("scan", 0.1), ("compile", 41.8), ("captions", 3.9), ("latents", 18.2), ("engine", 31.0))
STEP = 4.0
"""Seconds of one."""
ESTIMATE = {"gpu_mib": 15_844, "host_mib": 61_270, "step_seconds": 3.9, "gpu": []}


class MadeRun:
    """Writes what a run of SDXL on cards of 24 GB would have told up to some step."""

    def __init__(self, path: Path, *, gpus: int = 1, max_steps: int = 1000, lost: int | None = None) -> None:
        model = ModelSettings(pretrained_model_name_or_path="stabilityai/stable-diffusion-xl-base-1.0")
        training = TrainingSettings(model=model, data=DataSettings(instance_data_dir="pictures", resolution=1024))
        planned = make_plan(Settings(launch=LaunchSettings(), training=training), b"{}", path)
        plan = {"argv": ["python"], "environment": {}, "estimate": ESTIMATE}
        self.run = create(path, {**planned.files, "plan.json": json.dumps(plan).encode()})
        self._gpus, self._max_steps, self._lost = gpus, max_steps, lost
        self._random = random.Random(1)
        self._readings = ReadingsFile(self.run.readings)
        self._lines: list[str] = []
        self.time = BEGAN
        self._lives = False
        self.step = 0

    def emit(self, event: str, **fields) -> None:
        self._lines.append(json.dumps({"time": round(self.time, 3), "event": event, **fields}))

    def begin(self) -> None:
        """All that comes before the first step."""
        self.emit("start", supervisor=os.getpid())
        for phase, seconds in PHASES:
            self.emit("phase", phase=phase, state="start")
            self._look(seconds, 1_400)
            self.emit("phase", phase=phase, state="end", seconds=seconds)
        self.emit("phase", phase="train", state="start")

    def train(self, steps: int, *, readings: bool = True) -> None:
        """So many steps more."""
        noise = self._random.gauss
        for step in range(self.step + 1, self.step + steps + 1):
            self.step = step
            self.time += 0 if readings else STEP
            if readings:
                self._look(STEP, 15_700)
            held = {"allocated": 9_000, "reserved": 14_310, "process": 15_712, "peak": 14_310}
            self.emit(
                "step",
                step=self.step,
                max_steps=self._max_steps,
                loss=round(0.1 + 0.08 * math.exp(-self.step / 300) + noise(0, 0.02), 6),
                lr=1e-6,
                grad_norm=round(0.93 + noise(0, 0.1), 4),
                loss_scale=None,
                skipped=False,
                seconds={"data": 0.01, "forward": 0.86, "backward": 1.85, "optimizer": 1.18, "total": STEP},
                samples_per_second=1.0,
                vram_mib=[held] * self._gpus,
                rss_mib=61_894,
            )
            done = {"done": self.step, "total": self._max_steps, "seconds_left": STEP * (self._max_steps - self.step)}
            self.emit("phase", phase="train", state="progress", **done)
            if self.step % 100 == 0:
                path = str(self.run.path / f"checkpoints/checkpoint-{self.step}")
                self.emit("checkpoint", path=path, step=self.step, bytes=36_000_000_000, seconds=61.0, removed=None)

    def pictures(self) -> None:
        """One that was drawn."""
        path = self.run.path / f"samples/step-{self.step}/sample-01.png"
        path.parent.mkdir(parents=True)
        small = Image.new("RGB", (64, 64))
        small.putdata([(4 * x, 4 * y, 255 - 2 * (x + y)) for y in range(64) for x in range(64)])
        small.resize((512, 512)).save(path)
        small.save(path.with_name("small.png"))
        prompt = "a lighthouse on a cliff at dusk, waves below, watercolour"
        told = {"path": str(path), "thumbnail": str(path.with_name("small.png")), "prompt": prompt, "seed": 42}
        self.emit("pictures", step=self.step, path=str(path.parent), prompts=[prompt], pictures=[told])

    def write(self, *log: str) -> RunDirectory:
        """The events so far, and lines of a log."""
        with self.run.events_jsonl.open("a") as file:
            file.writelines(f"{line}\n" for line in self._lines)
        self._lines.clear()
        with self.run.log.open("a") as file:
            file.writelines(f"{line}\n" for line in log)
        if self._lives:
            self._beat()
        return self.run

    def end(self, result: str, exit_code: int, message: str, **state) -> None:
        """As its supervisor tells it."""
        self.emit("end", result=result, exit_code=exit_code, message=message)
        write_outcome(self.run, Outcome(result, exit_code, message))
        told = {"result": result, "exit_code": exit_code, "message": message, "ended": self.time}
        self._state("ended", **told, **state)

    def _state(self, phase: str, **more) -> None:
        identity = ProcessIdentity.of(os.getpid()).to_json()
        state = RunState(phase, supervisor=identity, heartbeat=self.time, started=BEGAN, step=self.step, **more)
        write_state(self.run, state)

    def lose_supervisor(self) -> None:
        """It trained, and then nothing more was heard of it."""
        self._state("train")

    @contextmanager
    def held(self, **more) -> Iterator[RunDirectory]:
        """While a supervisor holds it."""
        self._beat(**more)
        self._lives = True
        with self.run.lock.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.run
        self._lives = False

    def _beat(self, **more) -> None:
        """Its supervisor and its rank 0 say that they live."""
        self._state("train", **more)
        beat = {**ProcessIdentity.of(os.getpid()).to_json(), "time": self.time, "phase": "train", "step": self.step}
        self.run.heartbeat_json.write_text(json.dumps({**beat, "progressed": self.time, "host": "elsewhere"}))

    def look_once(self) -> None:
        """The machine now."""
        self._readings.append(self._sample(15_700 + self.step % 40))

    def _look(self, seconds: float, mib: int) -> None:
        for _ in range(max(1, round(seconds))):
            self.time += seconds / max(1, round(seconds))
            self._readings.append(self._sample(mib))

    def _sample(self, mib: int) -> Sample:
        gpus = [self._gpu(index, mib) for index in range(self._gpus) if index != self._lost or mib < 10_000]
        host = HostSample(total_mib=98_304, available_mib=34_000, load=4.2, cores=16)
        disk = DiskSample(Path("/runs"), 1, 900_000, 200_000, 0.0, 12.0)
        return Sample(self.time, gpus, "", host, TreeSample(4, 61_894, 10_240), [disk])

    def _gpu(self, index: int, mib: int) -> GpuSample:
        return GpuSample(
            index=index,
            uuid=f"GPU-{index}",
            name="NVIDIA GeForce RTX 4090",
            total_mib=24_564,
            used_mib=mib + 37 * index,
            reserved_mib=616,
            utilisation=97,
            temperature=61,
            power_w=382,
            power_limit_w=450,
            clock_mhz=2520,
            memory_clock_mhz=10_501,
            throttled=(),
            ecc_errors=0,
            received_mib_s=1200,
            sent_mib_s=900,
            processes=(),
        )
