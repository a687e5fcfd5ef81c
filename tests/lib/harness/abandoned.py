"""A real run of the tiny SDXL whose terminals go away, each in another way, in every phase of it."""

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from harness.losing import HANG_UP, KILL, TMUX, bound_to, in_session, lose, opened
from harness.runs import CLI, end_run, events, wait_for
from harness.startup import Held
from harness.terminal import Terminal
from launcher.runs.directory import RunDirectory
from launcher.runs.heartbeat import read_heartbeat
from launcher.runs.state import RunStatus, status

ROOT = Path(__file__).parents[3]
STEPS, SAVED = 20, 10
WAYS = (HANG_UP, TMUX, KILL) if shutil.which("tmux") else (HANG_UP, KILL)
PHASES = {"latents": "  latents…", "engine": "  start the optimizer…", "train": "", "save": "  save…"}
"""Caching, init, training and saving: what a dashboard shows of each; of the training it is the step."""
INTERVAL = 0.55
"""Seconds after which a training that gets on tells its progress again."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A dashboard that was attached, showed the phase, and was lost."""

    phase: str
    way: str
    painted: float
    """Seconds from the start of its process to its first picture."""
    shown: float
    """Seconds from there until the phase was to be seen."""
    bound: list
    """Processes of the run that its terminal could have taken along."""
    left: RunStatus
    """What the run was afterwards."""
    trainer: int
    """Rank 0, by its heartbeat."""


@dataclass
class AbandonedRun:
    """It was launched in a terminal, abandoned in every way, and followed to its end."""

    home: Path
    run: RunDirectory
    seen: dict[str, str]
    """What each terminal that is read line by line showed."""
    codes: dict[str, int]
    left: dict[str, RunStatus]
    """What the run was after each of them."""
    lost: list[Lost]


def answers_at(home: Path, assets: Path) -> list[str]:
    """The demo's answers in a folder, and options that make a short run of them."""
    home.mkdir()
    shutil.copy(ROOT / "examples/demo/answers.json", home)
    (home / "assets").symlink_to(assets)
    (home / "examples").symlink_to(ROOT / "examples")
    changes = {
        "resolution": 32,
        "max_train_steps": STEPS,
        "checkpointing_steps": SAVED,
        "lr_warmup_steps": 5,
        "num_eval_images": 4,
        "num_validation_images": 0,
        "cpu_threads": 1,
    }
    return ["answers.json", *(part for key, value in changes.items() for part in ("--set", f"training.{key}={value}"))]


def abandon(home: Path, assets: Path) -> AbandonedRun:
    """Launches it, loses every terminal that looks at it, and looks at its end."""
    real = AbandonedRun(home, RunDirectory(home), {}, {}, {}, [])
    terminals: dict[str, Terminal] = {}

    def open_terminal(name: str, *command: str, **environment: str) -> Terminal:
        terminals[name] = Terminal(CLI, *command, cwd=home, **environment)
        return terminals[name]

    def closed(name: str) -> None:
        real.codes[name] = terminals[name].wait()
        real.seen[name] = terminals[name].seen
        real.left[name] = status(real.run)

    try:
        answers = answers_at(home, assets)
        held = Held(home.parent / "held", *(set(PHASES) - {"train"}))
        replay = open_terminal("killed", "--replay", *answers, **held.environment)
        replay.read_until(" in /")
        (path,) = (home / "runs").glob("tiny-*")
        real.run = RunDirectory(path)
        replay.read_until("prompt embeddings")
        os.kill(replay.pid, signal.SIGKILL)
        closed("killed")
        replay.hang_up()  # and the line it came over
        open_terminal("hung up", "attach", path.name, "--plain").read_until("processes meet")
        terminals["hung up"].hang_up()
        closed("hung up")
        open_terminal("interrupted", "attach", str(path), "--plain").read_until("processes meet")
        terminals["interrupted"].interrupt()
        closed("interrupted")
        for phase in PHASES:
            _lose_all_in(phase, real, held)
        open_terminal("to the end", "attach", path.name, "--plain", "--refresh", "0.05").read_until("processes meet")
        held.let_go("save")
        terminals["to the end"].wait(180)
        closed("to the end")
        wait_for(lambda: events(real.run, "end"))
        return real
    finally:
        for terminal in terminals.values():
            terminal.close()
        if real.run.plan_json.exists():
            end_run(real.run)


def _lose_all_in(phase: str, real: AbandonedRun, held: Held) -> None:
    """Attaches a dashboard for each way, and loses it; then lets the phase go on, but for the save, which waits."""
    wait_for(lambda: _told(real.run, phase), 120)
    for way in WAYS:
        if phase == "train":
            told = _told(real.run, phase)[-1]
            real.lost.append(_lose(phase, f" {told['done']:.0f}/{STEPS} ", way, real))
            # A terminal that is lost holds up no step.
            time.sleep(max(0.0, told["time"] + INTERVAL - time.time()))
            held.allow(told["done"] + 1)
            wait_for(lambda last=told: _told(real.run, phase)[-1]["done"] > last["done"])
        else:
            real.lost.append(_lose(phase, PHASES[phase], way, real))
    if phase != "save":
        held.let_go(phase)


def _told(run: RunDirectory, phase: str) -> list[dict]:
    """Its beginning, or what it told of its progress in the training."""
    state = "progress" if phase == "train" else "start"
    return [event for event in events(run, "phase") if (event["phase"], event["state"]) == (phase, state)]


def _lose(phase: str, shows: str, way: str, real: AbandonedRun) -> Lost:
    started = time.monotonic()
    window = opened(way, CLI, "attach", real.run.name, cwd=real.home)
    try:
        window.read_until("Messages")
        painted = time.monotonic()
        window.read_until(shows)
        shown = time.monotonic()
        bound = bound_to(window.pid, real.run)
        lose(window, way)
        if way != TMUX:
            window.wait(10)
        wait_for(lambda: not in_session(window.pid), 5)
        trainer = int(str((read_heartbeat(real.run) or {})["pid"]))
        return Lost(phase, way, painted - started, shown - painted, bound, status(real.run), trainer)
    finally:
        window.close()
