"""Every screen in every state worth seeing: one table, drawn for the snapshot tests and for screenshots/."""

import asyncio
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import yaml
from textual import _wait
from textual.app import App
from textual.screen import Screen

from harness.fake_model import write_model, write_pictures
from harness.h200 import H200, keep
from harness.rehearsals import REHEARSED, under_way
from launcher.machine.cards import CARDS
from launcher.machine.gpu_processes import GpuProcess
from launcher.machine.gpus import Gpu, Gpus
from launcher.machine.host import Host
from launcher.machine.toolchain import Toolchain
from launcher.preflight import Machine
from simpletuner_tui.documents import accelerate_document, run_document
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.conditions import Is
from simpletuner_tui.questions.kinds import Kind
from simpletuner_tui.questions.model import Choice, Question
from simpletuner_tui.rehearsing import Kept
from simpletuner_tui.session import Session
from simpletuner_tui.tui.app import WizardApp
from simpletuner_tui.tui.glyphs import ASCII, UNICODE, Glyphs
from simpletuner_tui.tui.screens.rehearsal import RehearsalScreen
from simpletuner_tui.tui.setup import SetUp
from simpletuner_tui.tui.widgets.cost_pane import CostPane

SMALL, LARGE, TINY = (80, 24), (120, 40), (50, 15)
HOME = Path(tempfile.gettempdir()) / "simpletuner-tui-screens"
"""A folder of a fixed name, because screens show it."""

CARD = Gpu(index=0, uuid="GPU-0", name="NVIDIA GeForce RTX 4090", total_mib=24564, free_mib=23012, used_mib=1552)
MACHINE = Machine(
    gpus=lambda: Gpus((CARD,)),
    host=lambda: Host(total_mib=96 * 1024, available_mib=90 * 1024, cores=16),
    gpu_processes=lambda uuid: (GpuProcess(20431, "python3.11", 1208), GpuProcess(1187, "Xorg", 312)),
    free_bytes=lambda folder: 200 * 2**30,
    toolchain=lambda: Toolchain(compiler="/usr/bin/c++", headers=True, ninja="/usr/bin/ninja"),
)
NO_GPU = replace(MACHINE, gpus=lambda: Gpus((), reason="no NVIDIA driver answers (NVML Shared Library Not Found)"))
ANSWERS = {
    "training.pretrained_model_name_or_path": "./model",
    "training.instance_data_dir": "./pictures",
    "training.resolution": 64,
    "training.train_batch_size": 2,
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 2,
    "accelerate.offload_optimizer": "cpu",
    "accelerate.mixed_precision": "bf16",
}

WITH_H200 = replace(
    MACHINE,
    gpus=lambda: Gpus((Gpu(0, "GPU-0", H200.hardware.gpu, 143_771, 143_155, 0),)),
    gpu_processes=lambda uuid: (),
)
"""What :data:`harness.h200.H200` was measured on."""

RECOMMENDABLE = {**ANSWERS, "training.pretrained_model_name_or_path": "owner/sdxl", "training.resolution": 1024}

SDXL = {
    "training.pretrained_model_name_or_path": "stabilityai/stable-diffusion-xl-base-1.0",
    "training.instance_data_dir": "./pictures",
    "training.train_batch_size": 4,
    "training.resolution": 1024,
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 2,
    "accelerate.offload_optimizer": "none",
    "accelerate.mixed_precision": "bf16",
}
"""What it costs is worth seeing; the model is not here, so its known sizes are assumed."""


HOLDERS = tuple(
    GpuProcess(*each)
    for each in ((20431, "python3.11", 17_208), (1187, "Xorg", 312), (1402, "gnome-shell", 188), (3310, "firefox", 96))
)


def with_free(free_mib: int, *holders: GpuProcess) -> Machine:
    """The same machine with so much free on its card, and what is known of who holds the rest."""
    card = replace(CARD, free_mib=free_mib, used_mib=CARD.total_mib - free_mib)
    return replace(MACHINE, gpus=lambda: Gpus((card,)), gpu_processes=lambda uuid: holders)


def choose_card(gigabytes: int) -> tuple[str, ...]:
    """The keys that choose a card of the list, while none is chosen."""
    return ("f9", *["down"] * (1 + list(CARDS).index(gigabytes)), "enter")


FILE = {
    "distributed_type": "DEEPSPEED",
    "deepspeed_config": {
        "zero_stage": 3,
        "offload_optimizer_device": "cpu",
        "offload_param_device": "cpu",
        "optimizer": {"type": "AdamW", "params": {"lr": 2e-6, "torch_adam": True}},
    },
    "mixed_precision": "bf16",
    "num_processes": 2,
}
FROM_FILE = (*"./model", *4 * ("enter",), *"./pictures", "f4", "ctrl+p", *"zero_stage", "down", "enter")
"""To a question that the file answers."""
LONGER = ("ctrl+p", *"max_train_steps", "down", "enter", "7", "enter", "f4")
"""To another number of steps, and back to the review."""
TWO_GPUS = {
    "accelerate.machine": "MULTI_GPU",
    "accelerate.num_processes": 2,
    "accelerate.numa": True,
    "accelerate.mixed_precision": "bf16",
}

ENGINES = (Choice("one that is here", "here"), Choice("one that is not", "gone"))
RARE = (
    Question("rare.engine", Kind.MENU, "Which engine should do it?", "Engines", choices=ENGINES, default="here"),
    Question("rare.note", Kind.NOTE, "It is fetched when it is needed.", "Engines", when=Is("rare.engine", "here")),
    Question(
        "rare.stop",
        Kind.STOP,
        "That engine is not installed on this machine.",
        "Engines",
        when=Is("rare.engine", "gone"),
        help="it is not installed on this machine",
    ),
    Question("rare.words", Kind.REPEAT, "Which words, one after another?", "Words", default=[], more="Another?"),
    Question("rare.key", Kind.TEXT, "What is the secret key?", "Words", default="", secret=True),
)
"""Kinds of questions that are hard to come by in the real registry."""


@dataclass(frozen=True)
class Scenario:
    """A state of the application: what was answered before, and the keys that lead there."""

    name: str
    keys: tuple[str, ...] = ()
    answers: Mapping[str, object] = field(default_factory=dict)
    question: str = ""
    """Where the walk is when the keys begin."""
    sizes: tuple[tuple[int, int], ...] = (SMALL, LARGE)
    machine: Machine = MACHINE
    glyphs: Glyphs = UNICODE
    theme: str = "textual-dark"
    draft: bool = False
    presets: bool = False
    """Whether it can start from one."""
    file: Mapping[str, object] = field(default_factory=dict)
    """accelerate's file, where there is one."""
    accelerate: bool = False
    """As ``accelerate-config`` asks."""
    hangs: bool = False
    """Whether what the last key asked of the machine is still to come."""
    no_color: bool = False
    """As after a launch, without one."""
    rehearsing: bool = False
    """As in the second step of a rehearsal, without one."""
    rehearsed: tuple[str, ...] | None = None
    """As after a rehearsal, without one: what is pressed then."""
    measured: bool = False
    """Whether the speed of the machine is known: an H200's."""
    registry: Sequence[Question] = REGISTRY


COST = ("f5", "f5", "down", "enter")
"""The keys that show the cost and move the optimizer to the CPU."""

SCENARIOS = (
    Scenario("first-question"),
    Scenario("no-gpu", machine=NO_GPU, sizes=(SMALL,)),
    Scenario("menu", answers=ANSWERS, question="accelerate.zero_stage"),
    Scenario("long-list", answers=ANSWERS, question="accelerate.machine"),
    Scenario("long-list-filtered", ("/", "g", "p", "u"), ANSWERS, "accelerate.machine", sizes=(SMALL,)),
    Scenario("text-with-error", (*"12x",), ANSWERS, "training.max_train_steps"),
    Scenario("note", ("enter",), registry=RARE, sizes=(SMALL,)),
    Scenario("not-here", ("down",), registry=RARE, sizes=(SMALL,)),
    Scenario("stop", ("down", "enter"), registry=RARE, sizes=(SMALL,)),
    Scenario("repeat", (*"one", "enter", *"tw"), registry=RARE[3:4], sizes=(SMALL,)),
    Scenario("secret", (*"hush",), registry=RARE[4:], sizes=(SMALL,)),
    Scenario("help", ("f1",), ANSWERS, question="accelerate.zero_stage"),
    Scenario("path", (*"pic",), {}, "training.pretrained_model_name_or_path", sizes=(SMALL,)),
    Scenario("build", ("f8",), ANSWERS, "accelerate.zero_stage", sizes=(SMALL,)),
    Scenario("file-as-it-grows", ("3", "enter", "f5"), ANSWERS, "accelerate.zero_stage"),
    Scenario("cost", ("3", "enter", "f5", "f5"), ANSWERS, "accelerate.zero_stage"),
    *(
        Scenario(f"cost-{state}", (*COST, *keys), SDXL, "accelerate.offload_optimizer", **rest)
        for state, keys, rest in (
            ("fits", (), {}),
            ("tight", (), {"machine": with_free(13_000, GpuProcess(20431, "python3.11", 11_420))}),
            ("does-not-fit", choose_card(8), {}),
            ("held-by-others", (), {"machine": with_free(6_000, *HOLDERS)}),
            ("not-told-by-whom", (), {"machine": with_free(6_000), "sizes": (SMALL,)}),
            ("phases", ("f6", "f6", "pagedown"), {"sizes": (SMALL,)}),
            ("card", ("f9",), {"sizes": (SMALL,)}),
            ("card-chosen", choose_card(12), {"machine": NO_GPU}),
            ("no-gpu", (), {"machine": NO_GPU, "sizes": (SMALL,)}),
            ("measuring", (), {"hangs": True}),
            ("seconds", (), {"machine": WITH_H200, "measured": True}),
            ("ascii", (), {"glyphs": ASCII, "sizes": (SMALL,)}),
            ("ansi", (), {"theme": "ansi-dark", "sizes": (SMALL,)}),
            ("no-colour", (), {"no_color": True, "sizes": (SMALL,)}),
        )
    ),
    Scenario("steps", ("f6",), ANSWERS, "accelerate.mixed_precision", sizes=(SMALL,)),
    Scenario("review", ("f4",), ANSWERS),
    Scenario("review-files", ("f4", "f5", "f5"), ANSWERS),
    Scenario("review-with-errors", ("f4",), {**ANSWERS, "training.instance_data_dir": "./nowhere"}),
    Scenario("rehearsal", ("f4",), ANSWERS, rehearsing=True, sizes=(SMALL,)),
    Scenario("review-rehearsed", ("f4",), ANSWERS, rehearsed=()),
    Scenario("review-stale", ("f4",), ANSWERS, rehearsed=LONGER, sizes=(SMALL,)),
    Scenario("dry-run", ("f4", "f8"), ANSWERS, sizes=(SMALL,)),
    Scenario("save", ("f4", "f7"), ANSWERS, sizes=(SMALL,)),
    Scenario("diff", ("f4", "f7", "enter"), ANSWERS),
    Scenario("launch", ("f4", "f9"), ANSWERS, sizes=(SMALL,)),
    Scenario("quit", ("7", "enter", "ctrl+q"), ANSWERS, "training.max_train_steps", sizes=(SMALL,)),
    Scenario("draft", draft=True),
    Scenario("start-from-a-file", file=FILE, sizes=(SMALL,)),
    Scenario("start", draft=True, presets=True, sizes=(SMALL,)),
    Scenario("presets", ("down", "enter"), presets=True),
    Scenario("answer-from-a-preset", ("down", "enter", "enter", *FROM_FILE), presets=True, sizes=(SMALL,)),
    Scenario("recommend", ("f7",), ANSWERS, "accelerate.zero_stage", sizes=(SMALL,)),
    Scenario("recommendation", ("f7", *4 * ("down",), "enter"), RECOMMENDABLE, "accelerate.zero_stage"),
    Scenario(
        "recommendation-nothing",
        ("f7", "down", "enter"),
        {**RECOMMENDABLE, "training.resolution": 4096},
        sizes=(SMALL,),
    ),
    Scenario("answer-from-a-file", ("enter", *FROM_FILE), file=FILE, sizes=(SMALL,)),
    Scenario("accelerate-review", ("f4",), TWO_GPUS, accelerate=True),
    Scenario("palette", ("ctrl+p", *"stage"), ANSWERS, sizes=(SMALL,)),
    Scenario("ascii", answers=ANSWERS, question="accelerate.zero_stage", glyphs=ASCII, sizes=(SMALL,)),
    Scenario("ansi", answers=ANSWERS, question="accelerate.zero_stage", theme="ansi-dark", sizes=(SMALL,)),
    Scenario("too-small", sizes=(TINY,)),
)

THREADS = ("_price", "_judge", "_read", "_propose")
"""Workers that end by themselves."""


def file_name(scenario, size: tuple[int, int]) -> str:
    """What the picture of a case is called."""
    return f"{scenario.name}-{size[0]}x{size[1]}.svg"


def draw(scenario: Scenario, size: tuple[int, int]) -> str:
    """The SVG of a case."""
    shutil.rmtree(HOME, ignore_errors=True)
    write_model(HOME / "model")
    write_pictures(HOME / "pictures")
    (HOME / "answers.json").write_text(json.dumps({"schema": 1, "answers": {"training.resolution": 64}}))
    before = Path.cwd()
    environment = {"TZ": "UTC", "XDG_CACHE_HOME": str(HOME / "cache"), "XDG_STATE_HOME": str(HOME / "state")}
    try:
        os.chdir(HOME)
        # Whichever machine draws it: its own hardware is not asked.
        hardware = patch("launcher.plan._hardware", lambda threads: H200.hardware)
        with patch.dict(os.environ, environment), hardware, short_waits():
            if scenario.measured:
                keep(H200)
            for variable in ("NO_COLOR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
                os.environ.pop(variable, None)
            if scenario.no_color:
                os.environ["NO_COLOR"] = "1"
            time.tzset()
            return asyncio.run(_draw(scenario, size))
    finally:
        os.chdir(before)
        shutil.rmtree(HOME, ignore_errors=True)


@contextmanager
def short_waits():
    """Textual's pilot looks every 20 ms whether the application is idle; a quarter of that does as well."""
    with patch.object(_wait, "SLEEP_GRANULARITY", 1 / 200), patch.object(_wait, "SLEEP_IDLE", 1 / 2000):
        yield


async def _draw(scenario: Scenario, size: tuple[int, int]) -> str:
    app, answers = make_app(scenario), threading.Event()
    answers.set()
    app.theme = scenario.theme
    if scenario.hangs:
        host = scenario.machine.host
        slow = replace(scenario.machine, host=lambda: host() if answers.wait(30) else None)
        app.setup = replace(app.setup, machine=lambda: slow)
    async with app.run_test(size=size) as pilot:
        await settle(app, pilot)
        while type(app.screen) is Screen or any(
            pane.display and pane.priced is None for pane in app.screen.query(CostPane)
        ):
            await pilot.pause(0.02)  # a price is asked for some time after the question is there
        await settle(app, pilot)
        *before, last = scenario.keys or ("",)
        await press(app, pilot, before)
        if scenario.hangs:
            answers.clear()
            await pilot.press(last)
            while "measuring" not in app.export_screenshot():
                await pilot.pause(0.02)
        elif last:
            await press(app, pilot, (last,))
        if scenario.rehearsed is not None:
            app.rehearsed = Kept.of(app.screen.review.prepared, REHEARSED)
            app.screen.show_rehearsal(app.rehearsed)
            await press(app, pilot, scenario.rehearsed)
        if not scenario.rehearsing:
            drawn = await picture(app, pilot)
            answers.set()
            return drawn
        with under_way(HOME / "runs/.rehearsal-sdxl-20270115-080000") as run:
            await app.push_screen(RehearsalScreen(run, scenario.glyphs))
            await pilot.pause(0.1)  # it looks a moment later
            return await picture(app, pilot)


async def press(app: WizardApp, pilot, keys: Sequence[str]) -> None:
    """One key after another, each with what it sets off."""
    for key in keys:
        await pilot.press(key)
        await settle(app, pilot)


async def picture(app: App, pilot) -> str:
    """The SVG once nothing moves: a text too long for its pane is laid out again when its scroll bar is there."""
    before, now = "", app.export_screenshot(title="simpletuner-tui")
    while now != before:
        await pilot.pause(0.02)
        before, now = now, app.export_screenshot(title="simpletuner-tui")
    return now


def make_app(scenario: Scenario) -> WizardApp:
    """The application as a scenario wants it, in the folder one is in."""
    if scenario.accelerate:
        document = replace(accelerate_document(Path("two.yaml")), sources=())
    else:
        sources = (Path("default_config.yaml"),)
        document = replace(run_document(), registry=scenario.registry, sources=sources, presets=scenario.presets)
    if scenario.file:
        Path("default_config.yaml").write_text(yaml.safe_dump(scenario.file))
    drafts = Drafts(Path("draft.json"))
    if scenario.draft:
        content = {"answers": ANSWERS, "place": "accelerate.zero_stage", "base": str(Path.cwd()), "saved": 1.8e9}
        drafts.path.write_text(json.dumps(content))
    session = Session(document.registry, dict(scenario.answers), {"deepspeed": True, "transformers": True})
    if scenario.question:
        session.restore({}, scenario.question)
    setup = SetUp(
        session=session,
        document=document,
        drafts=drafts,
        gpus=scenario.machine.gpus,
        machine=lambda: scenario.machine,
        base=Path.cwd(),
        run_dir=lambda: Path("runs/sdxl-20270115-080000"),
        glyphs=scenario.glyphs,
    )
    return WizardApp(setup)


async def settle(app: WizardApp, pilot) -> None:
    """Waits for what a key set off: threads that read and judge, not the walk itself."""
    await pilot.pause()
    while threads := [worker for worker in app.workers if worker.name in THREADS and not worker.is_finished]:
        await app.workers.wait_for_complete(threads)
        await pilot.pause()
