"""Home in every state worth seeing, drawn as ``screens.draw`` draws the wizard."""

import asyncio
import fcntl
import json
import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

from harness.screens import (  # noqa: F401 - file_name is every table's
    ANSWERS,
    LARGE,
    MACHINE,
    NO_GPU,
    SMALL,
    TINY,
    file_name,
    picture,
    settle,
    short_waits,
)
from launcher.machine.gpus import Gpu, Gpus
from launcher.preflight import Machine
from launcher.runs.directory import RunDirectory, create
from launcher.runs.index import register
from simpletuner_tui.documents import run_document
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.session import Session
from simpletuner_tui.setups import remember
from simpletuner_tui.tui.app import WizardApp
from simpletuner_tui.tui.glyphs import ASCII, UNICODE, Glyphs
from simpletuner_tui.tui.setup import SetUp

HOME = Path(tempfile.gettempdir()) / "simpletuner-tui-home"
"""A folder of a fixed name, because screens show it."""
NOW = 1.8e9
"""Half past seven in the morning, on 15 January 2027."""
DAY = 86_400.0
NARROW = (60, 20)

EIGHT = replace(
    MACHINE,
    gpus=lambda: Gpus(
        [
            Gpu(index, f"GPU-{index}", "NVIDIA H100 80GB HBM3", 81_559, 81_559 - used, used)
            for index, used in enumerate((71_204, 71_180, 71_180, 4, 4, 4, 4, 30_922))
        ]
    ),
)


@dataclass(frozen=True)
class HomeScenario:
    """A state of home, and the keys that lead there."""

    name: str
    keys: tuple[str, ...] = ()
    sizes: tuple[tuple[int, int], ...] = (SMALL,)
    things: bool = True
    """Whether there are runs, set-ups and a draft."""
    machine: Machine = MACHINE
    glyphs: Glyphs = UNICODE


SCENARIOS = (
    HomeScenario("home-at-first", things=False, machine=NO_GPU),
    HomeScenario("home", sizes=(SMALL, LARGE, NARROW)),
    HomeScenario("home-eight-gpus", machine=EIGHT),
    HomeScenario("home-delete-run", ("down", "d")),
    HomeScenario("home-ascii", ("down",), glyphs=ASCII),
    HomeScenario("home-too-small", sizes=(TINY,)),
)


def make_run(
    path: Path, started: float, phase: str = "ended", result: str | None = None, **state: object
) -> RunDirectory:
    """A run directory as a supervisor would have left it."""
    told = {
        "phase": phase,
        "supervisor": {},
        "heartbeat": time.time(),
        "started": started,
        "result": result,
        "ended": started + 3600 if result else None,
        **state,
    }
    answers = json.dumps({"schema": 1, "answers": ANSWERS})
    training = {"pretrained_model_name_or_path": "m", "instance_data_dir": "p"}
    files = {"plan.json": {}, "state.json": told, "training.json": training}
    run = create(path, {name: json.dumps(content).encode() for name, content in files.items()})
    run.answers.write_text(answers)
    register(run)
    return run


def put_things() -> ExitStack:
    """Runs, set-ups and a draft in the folder one is in; the run that goes on does so until it is closed."""
    day = NOW - DAY
    make_run(HOME / "runs/portraits", day - 40 * DAY, result="completed", step=1000)
    stopped = make_run(HOME / "runs/pixel-art-2", day - 9 * DAY, result="stopped", step=612)
    make_run(HOME / "runs/pixel-art-1", day - 11 * DAY, result="failed")
    make_run(HOME / "runs/sdxl-20270112-190411", day - 2 * DAY, result="failed")
    for name in ("cats-1", "cats-2"):
        make_run(HOME / f"runs/{name}", day, result="completed", step=2000)
    failed = make_run(HOME / "runs/cats-3", NOW - 30_000, result="failed", step=1377)
    for run, step in ((stopped, 500), (failed, 1000)):
        folder = run.path / f"checkpoints/checkpoint-{step}"
        folder.mkdir(parents=True)
        with (folder / "optimizer.bin").open("wb") as file:
            file.truncate(36 * 10**9)  # a hole: it takes nothing
    going = make_run(HOME / "runs/cats-4", NOW - 4000, phase="train", step=1240)
    beat = {"time": time.time(), "pid": os.getpid(), "phase": "train", "step": 1240, "progressed": time.time()}
    going.heartbeat_json.write_text(json.dumps(beat))
    for name, age in (("cats/answers.json", 5000), ("pixel-art/answers.json", 9 * DAY), ("fits-12GB.json", 40 * DAY)):
        path = HOME / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"schema": 1, "answers": ANSWERS}))
        os.utime(path, (NOW - age, NOW - age))
        remember(path)
    draft = {"answers": ANSWERS, "place": "accelerate.zero_stage", "base": str(HOME), "saved": NOW - 60}
    Path("draft.json").write_text(json.dumps(draft))
    stack = ExitStack()
    fcntl.flock(stack.enter_context(going.lock.open("ab")), fcntl.LOCK_EX)
    return stack


def make_app(scenario: HomeScenario) -> WizardApp:
    """The application as a scenario wants it, in the folder one is in."""
    document = replace(run_document(), sources=())
    return WizardApp(
        SetUp(
            session=Session(document.registry, {}, {"deepspeed": True, "transformers": True}),
            document=document,
            drafts=Drafts(Path("draft.json")),
            gpus=scenario.machine.gpus,
            machine=lambda: scenario.machine,
            base=Path.cwd(),
            run_dir=lambda: Path("runs/sdxl-20270115-080000"),
            glyphs=scenario.glyphs,
            at_home=True,
            clock=lambda: NOW,
        )
    )


def draw(scenario: HomeScenario, size: tuple[int, int]) -> str:
    """The SVG of a case."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    before = Path.cwd()
    environment = {"TZ": "UTC", "HOME": str(HOME), "XDG_STATE_HOME": str(HOME / "state")}
    try:
        os.chdir(HOME)
        with patch.dict(os.environ, environment), short_waits():
            os.environ.pop("NO_COLOR", None)
            time.tzset()
            with put_things() if scenario.things else ExitStack():
                return asyncio.run(_draw(scenario, size))
    finally:
        os.chdir(before)
        shutil.rmtree(HOME, ignore_errors=True)


async def _draw(scenario: HomeScenario, size: tuple[int, int]) -> str:
    app = make_app(scenario)
    async with app.run_test(size=size) as pilot:
        await settle(app, pilot)
        for key in scenario.keys:
            await pilot.press(key)
            await settle(app, pilot)
        await pilot.pause(0.1)  # what is looked for in a thread of its own
        return await picture(app, pilot)
