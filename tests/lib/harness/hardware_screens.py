"""The hardware screen in every state worth seeing, over samples of our own."""

import asyncio
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from harness.made_runs import BEGAN, MadeRun
from harness.screens import LARGE, SMALL, file_name, picture, short_waits  # noqa: F401 - each table has file_name
from launcher.machine.gpu_processes import IN_CONTAINER, GpuProcess
from launcher.machine.nvml_sample import DIVIDED, OF_THE_WHOLE
from launcher.machine.sample import DiskSample, GpuSample, HostSample, Sample, Unknown
from simpletuner_tui.hardware import Expected, Subject
from simpletuner_tui.history import History
from simpletuner_tui.tui.glyphs import ASCII, UNICODE, Glyphs
from simpletuner_tui.tui.quiet_app import QuietApp
from simpletuner_tui.tui.screens.hardware import HardwareScreen
from simpletuner_tui.watcher import Watcher

HOME = Path(tempfile.gettempdir()) / "simpletuner-tui-hardware"
NOT_SUPPORTED = Unknown("Not Supported")
OFF_THE_BUS = "it has fallen off the bus; the machine has to be restarted"


def gpu(index: int = 0, used: float = 15_102, **rest) -> GpuSample:
    """A card of 24 GB in the middle of a step."""
    figures = {
        "uuid": f"GPU-{index}",
        "name": "NVIDIA GeForce RTX 4090",
        "total_mib": 24_564,
        "reserved_mib": 616,
        "utilisation": 97 - index,
        "temperature": 64 + index,
        "power_w": 412.0 - 3 * index,
        "power_limit_w": 450.0,
        "clock_mhz": 2520,
        "memory_clock_mhz": 10_501,
        "throttled": (),
        "ecc_errors": NOT_SUPPORTED,
        "received_mib_s": 1204.0,
        "sent_mib_s": 310.0,
        "processes": (GpuProcess(20431, "python3.11", int(used) - 312), GpuProcess(1187, "Xorg", 312)),
    }
    return GpuSample(**{"index": index, "used_mib": used, **figures, **rest})


def without_figures(index: int, why: Unknown, **rest) -> GpuSample:
    """One of which nothing is known but what is said."""
    names = [name for name in GpuSample.__slots__ if name not in ("index", "uuid", "name", "lost")]
    return GpuSample(**{"index": index, "uuid": f"GPU-{index}", "name": "", **dict.fromkeys(names, why), **rest})


LOST = without_figures(1, Unknown(OFF_THE_BUS), name="NVIDIA GeForce RTX 4090", lost=OFF_THE_BUS)
MIG = (
    gpu(0, 30_000, name="NVIDIA A100-SXM4-80GB", total_mib=81_920, utilisation=DIVIDED, processes=IN_CONTAINER),
    *(
        without_figures(
            0, OF_THE_WHOLE, uuid=f"MIG-{part}", name=f"NVIDIA A100-SXM4-80GB MIG {profile}", utilisation=DIVIDED,
            total_mib=total, used_mib=used, reserved_mib=15, processes=IN_CONTAINER,
        )
        for part, (profile, total, used) in enumerate((("3g.40gb", 40_192, 29_610), ("2g.20gb", 19_968, 25)))
    ),
)  # fmt: skip
HOT = gpu(2, 23_900, throttled=("at its power limit", "hot"), temperature=84)


def sample(*gpus: GpuSample, at: float = BEGAN, none: str = "", disks: Sequence[DiskSample] = ()) -> Sample:
    host = HostSample(total_mib=96 * 1024, available_mib=58 * 1024, load=7.4, cores=16)
    return Sample(at, gpus, none, host, None, disks)


DISK = DiskSample(Path("/mnt/nvme"), 1, 1_907_000, 911_000, 2_204.0, 1_130.0)
PLAN = Expected(8_448, frozenset({"GPU-0", "GPU-1"}), 41_270, {Path("/mnt/nvme"): 62_000})


@dataclass
class FakeSamples:
    """Two minutes of looks that end in one."""

    last: Sample | None
    age: float = 0.3
    fault: str = ""

    @property
    def latest(self) -> Sample | None:
        return self.last

    @property
    def recent(self) -> Sequence[Sample]:
        return [self._earlier(back) for back in range(90, -1, -1)] if self.last else ()

    def _earlier(self, back: int) -> Sample:
        """The same with as much memory as a training had so many seconds ago."""
        share = 0.35 if back > 70 else 1.0 - 0.25 * abs(math.sin(back / 6)) if back else 1.0
        gpus = [
            replace(each, used_mib=each.used_mib * share) if isinstance(each.used_mib, int | float) else each
            for each in self.last.gpus
        ]
        return replace(self.last, time=self.last.time - back, gpus=gpus)


@dataclass(frozen=True)
class HardwareScenario:
    """A state of the machine, and the keys that lead there."""

    name: str
    samples: Callable[[], FakeSamples]
    keys: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = (SMALL,)
    expected: Expected | None = None
    run: bool = False
    """Whether it is looked at from a run's dashboard."""
    glyphs: Glyphs = UNICODE


def of(*gpus: GpuSample, disks: Sequence[DiskSample] = (), none: str = "", **rest) -> Callable[[], FakeSamples]:
    return lambda: FakeSamples(sample(*gpus, disks=disks, none=none), **rest)


EIGHT = (
    *(gpu(index, 15_102 - 40 * index) for index in range(2)),
    HOT,
    *(gpu(index, 41 + index) for index in range(3, 8)),
)
SCENARIOS = (
    HardwareScenario("hardware", of(gpu(), disks=(DISK,)), expected=PLAN, sizes=(SMALL, LARGE, (60, 20))),
    HardwareScenario("hardware-run", of(gpu(), disks=(DISK,)), run=True),
    HardwareScenario("hardware-eight", of(*EIGHT, disks=(DISK,)), ("down", "down"), expected=PLAN),
    HardwareScenario("hardware-graphs", of(*EIGHT, disks=(DISK,)), ("g",), expected=PLAN, glyphs=ASCII),
    HardwareScenario("hardware-lost", of(gpu(), LOST), ("down",)),
    HardwareScenario("hardware-mig", of(*MIG), ("down",)),
    HardwareScenario("hardware-none", of(none="no NVIDIA driver answers (NVML Shared Library Not Found)")),
    HardwareScenario("hardware-hangs", of(gpu(processes=IN_CONTAINER), age=41.0)),
)


def draw(scenario: HardwareScenario, size: tuple[int, int]) -> str:
    """The SVG of a case."""
    shutil.rmtree(HOME, ignore_errors=True)
    environment = {"TZ": "UTC", "HOME": str(HOME), "XDG_STATE_HOME": str(HOME / "state")}
    try:
        with patch.dict(os.environ, environment), short_waits():
            os.environ.pop("NO_COLOR", None)
            time.tzset()
            return asyncio.run(_draw(scenario, size))
    finally:
        shutil.rmtree(HOME, ignore_errors=True)


def of_run() -> Subject:
    """A run of six hundred steps, as its dashboard knows it."""
    made = MadeRun(HOME / "runs/cats-4")
    made.begin()
    made.train(600)
    made.write()
    look, history = Watcher(made.run).look(), History()
    for row in look.rows:
        history.take_row(look.header, row)
    uuids = frozenset(each.uuid for each in look.header.gpus)
    return Subject("cats-4", lambda: Expected(15_844, uuids, 61_270, comes_on_top=False), history)


async def _draw(scenario: HardwareScenario, size: tuple[int, int]) -> str:
    subject = of_run() if scenario.run else Subject("the plan", lambda: scenario.expected)
    samples = scenario.samples()
    if scenario.run:
        (uuid,) = subject.expected().uuids
        samples.last = replace(samples.last, gpus=[replace(samples.last.gpus[0], uuid=uuid)])
    app = QuietApp(scenario.glyphs)
    async with app.run_test(size=size) as pilot:
        await app.push_screen(HardwareScreen(samples, subject, scenario.glyphs))
        await app.workers.wait_for_complete()
        await pilot.pause()
        for key in scenario.keys:
            await pilot.press(key)
        return await picture(app, pilot)
