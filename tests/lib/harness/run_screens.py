"""The dashboard of a run in every state worth seeing, by a clock of our own."""

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from harness.made_runs import MadeRun
from harness.screens import HOME, LARGE, SMALL, picture, short_waits
from simpletuner_tui.tui.attach import AttachApp
from simpletuner_tui.tui.glyphs import ASCII, UNICODE, Glyphs
from simpletuner_tui.tui.screens.run import RunScreen

LOG = tuple(f"[rank0] step {step}: loss 0.1{step % 10}3, 4.00 s" for step in range(1, 60))


@contextmanager
def running(made: MadeRun) -> Iterator[None]:
    made.begin()
    made.train(400)
    made.write(*LOG)
    with made.held():
        yield


@contextmanager
def caching(made: MadeRun) -> Iterator[None]:
    made.emit("start", supervisor=os.getpid())
    made.emit("phase", phase="latents", state="start")
    made.emit("phase", phase="latents", state="progress", done=312, total=1840, seconds_left=95.0)
    made.write(*LOG[:1])
    with made.held():
        yield


@contextmanager
def launched(made: MadeRun) -> Iterator[None]:
    made.write()
    with made.held():
        yield


@contextmanager
def stopping(made: MadeRun) -> Iterator[None]:
    made.begin()
    made.train(60)
    made.emit("warning", message="no progress for 4 minutes in phase save; the disk may be slow (see docs)")
    made.emit("phase", phase="save", state="start")
    made.write(*LOG)
    with made.held(stop={"now": False, "reason": "asked to stop", "time": made.time}):
        yield


@contextmanager
def hung(made: MadeRun) -> Iterator[None]:
    made.begin()
    made.train(60)
    made.write(*LOG)
    with made.held():
        made.time += 95
        yield


@contextmanager
def finished(made: MadeRun) -> Iterator[None]:
    made.begin()
    made.train(1000)
    made.pictures()
    made.end("completed", 0, "trained 1000 steps")
    made.write(*LOG)
    yield


@contextmanager
def dead(made: MadeRun) -> Iterator[None]:
    made.begin()
    made.train(60)
    made.lose_supervisor()
    made.write(*LOG)
    yield


@contextmanager
def out_of_memory(made: MadeRun) -> Iterator[None]:
    made.begin()
    made.train(3)
    held = {"allocated": 11_930, "reserved": 12_546, "process": 13_940}
    made.emit("out_of_memory", phase="step", measured=held, predicted_mib=15_844)
    made.end("failed", 1, "the GPU is out of memory in phase train", child_exit=1)
    made.write(*LOG, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.25 GiB.")
    yield


@contextmanager
def disconnected(made: MadeRun) -> Iterator[None]:
    made.begin()
    made.train(60)
    made.write(*LOG)
    yield


@dataclass(frozen=True, slots=True)
class Scenario:
    """A run and what is pressed."""

    name: str
    state: Callable[[MadeRun], object]
    keys: Sequence[str] = ()
    gpus: int = 1
    lost: int | None = None
    read_only: bool = False
    glyphs: Glyphs = UNICODE
    no_color: bool = False
    sizes: tuple[tuple[int, int], ...] = (SMALL,)


SCENARIOS = (
    Scenario("run", running, sizes=(SMALL, LARGE)),
    Scenario("run-launched", launched),
    Scenario("run-caching", caching),
    Scenario("run-latest", running, ("g", "space")),
    Scenario("run-8-gpus", running, gpus=8, lost=5, sizes=(SMALL, LARGE)),
    Scenario("run-2-gpus", running, gpus=2),
    Scenario("run-no-gpu", running, gpus=0, read_only=True),
    Scenario("run-stopping", stopping),
    Scenario("run-hung", hung),
    Scenario("run-finished", finished),
    Scenario("run-dead", dead),
    Scenario("run-out-of-memory", out_of_memory, sizes=(SMALL, LARGE)),
    Scenario("run-disconnected", disconnected, ("gone",)),
    Scenario("run-log", running, ("l", "slash", *"59:", "enter")),
    Scenario("run-pictures", finished, ("p",), sizes=(SMALL, LARGE)),
    Scenario("run-stop", running, ("s",)),
    Scenario("run-ascii", running, glyphs=ASCII),
    Scenario("run-no-colour", running, gpus=2, no_color=True),
)


def draw(scenario: Scenario, size: tuple[int, int]) -> str:
    """The SVG of a case."""
    shutil.rmtree(HOME, ignore_errors=True)
    environment = {"TZ": "UTC", "XDG_CACHE_HOME": str(HOME / "cache"), "XDG_STATE_HOME": str(HOME / "state")}
    if scenario.no_color:
        environment["NO_COLOR"] = "1"
    try:
        with patch.dict(os.environ, environment), short_waits():
            if not scenario.no_color:
                os.environ.pop("NO_COLOR", None)
            time.tzset()
            made = MadeRun(HOME / "runs/sdxl-20270115-080000", gpus=scenario.gpus, lost=scenario.lost)
            with scenario.state(made):
                return asyncio.run(_draw(scenario, made, size))
    finally:
        shutil.rmtree(HOME, ignore_errors=True)


async def _draw(scenario: Scenario, made: MadeRun, size: tuple[int, int]) -> str:
    screen = RunScreen(made.run, scenario.glyphs, refresh=0.05, read_only=scenario.read_only, clock=lambda: made.time)
    app = AttachApp(screen, scenario.glyphs)
    async with app.run_test(size=size) as pilot:
        await seen(pilot, lambda: screen.status is not None)
        for key in scenario.keys:
            if key == "gone":
                shutil.rmtree(made.run.path)
                await seen(pilot, lambda: screen.status is None)
            else:
                await pilot.press(key)
        await pilot.pause(0.1)
        return await picture(app, pilot)


async def seen(pilot, what: Callable[[], bool]) -> None:
    """Waits until the screen has read so much."""
    while not what():
        await pilot.pause(0.02)
    await pilot.pause()


def file_name(scenario: Scenario, size: tuple[int, int]) -> str:
    """What the picture of a case is called."""
    return f"{scenario.name}-{size[0]}x{size[1]}.svg"
