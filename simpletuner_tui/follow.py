"""Following a run to its end, in plain lines: a bar where there is a terminal, a line now and then where not."""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from launcher.errors import ExitCode
from launcher.runs.checkpoints import whole
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events
from launcher.runs.outcome import read_outcome
from launcher.runs.state import RunStatus, Status, status
from simpletuner_tui.messages import tell
from simpletuner_tui.progress import Progress
from simpletuner_tui.text import bar, duration

POLL = 0.2
"""Seconds between two looks at a run."""
LINE_INTERVAL = 15.0
"""Seconds between two lines of progress where there is no terminal."""
SMALL = 1_000_000_000
"""Parameters below which a model is no SDXL and its owner is told what comes next."""

TITLES = {
    "join": "processes meet",
    "compile_communication": "compile communication",
    "compile": "compile DeepSpeed's optimizer",
    "download": "download the model",
    "contents": "look through pictures and caches",
    "convert": "convert the model",
    "captions": "prompt embeddings",
    "latents": "latents",
    "verify": "verify the checkpoint",
    "load": "load the U-Net",
    "engine": "start the optimizer",
    "evaluate": "loss on held-out noise",
    "train": "train",
    "save": "save",
    "export": "export the pipeline",
    "pictures": "validation pictures",
    "samples": "sample pictures",
}
"""Phases as people read them."""

EXAMPLE = Path("examples/sdxl/answers.json")
NEXT_STEPS = """
Next, SDXL 1.0 on your pictures (a folder, each with its caption in a .txt file of the same name):
  {command} estimate {example}          what it costs
  {command} check    {example} --set training.instance_data_dir=FOLDER
  {command} --replay {example} --set training.instance_data_dir=FOLDER"""


def follow(run: RunDirectory, *, as_json: bool = False, offset: int = 0, refresh: float = POLL) -> ExitCode:
    """Shows a run until it ends; progress on stderr, what is left of it on stdout.

    Args:
        run: a run that was started.
        as_json: its events on stdout, one a line, instead.
        offset: bytes of its events to pass over.
        refresh: seconds between two looks.

    Returns:
        The run's own exit code; ``CANCELLED`` when Ctrl-C detached from it, which leaves it going.
    """
    progress = Progress()
    show: _Lines | _Json = _Json() if as_json else _Lines(sys.stderr, progress)
    told_lost = False
    try:
        while True:
            current = status(run)  # asked first: what it tells of its end is then read below
            events, offset = read_events(run.events_jsonl, offset)
            for event in events:
                progress.take(event)
                show.event(event)
            if current.orphans and not told_lost:
                told_lost = True
                show.clear()
                tell(f"warning: the supervisor of {run.name} died; its training saves a checkpoint and ends")
            show.refresh()
            if not current.going:
                break
            time.sleep(refresh)
    except KeyboardInterrupt:
        show.clear()
        return detach(run)
    show.clear()
    if not as_json:
        _summarise(run, progress, current)
    return _exit_code(current)


def detach(run: RunDirectory) -> ExitCode:
    """Says how to come back to a run that goes on."""
    tell(
        f"\nDetached; {run.name} goes on.\n"
        f"  simpletuner-tui attach {run.name}    follows it again\n"
        f"  simpletuner-tui stop {run.name}      saves a checkpoint and ends it"
    )
    return ExitCode.CANCELLED


def _exit_code(current: RunStatus) -> ExitCode:
    if current.status in (Status.COMPLETED, Status.STOPPED):
        return ExitCode.OK
    code = current.state.get("exit_code")
    return ExitCode(code) if code in set(ExitCode) and code else ExitCode.RUN_FAILED


class _Json:
    """Events as they are."""

    def event(self, event: dict[str, Any]) -> None:
        print(json.dumps(event, ensure_ascii=False), flush=True)  # noqa: T201

    def refresh(self) -> None:
        """Nothing is redrawn."""

    def clear(self) -> None:
        """Nothing was drawn."""


class _Lines:
    """A line for each phase that ended, and one that moves."""

    def __init__(self, out: TextIO, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._progress, self._clock = out, progress, clock
        self._terminal = out.isatty()
        self._ascii = not (out.encoding or "").lower().startswith("utf")
        self._drawn, self._told = "", clock()

    def event(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "phase" and event.get("state") == "end":
            self._line(f"  {TITLES.get(event['phase'], event['phase']):30} {duration(float(event['seconds']))}")
        elif kind == "data":
            self._line(f"  {event['pictures']} pictures, {event['captions']} captions")
        elif kind == "model":
            width = f"{event['world_size']} process" + ("es" if event["world_size"] > 1 else "")
            stage = event["zero_stage"]
            self._line(
                f"  {_trained(event)} in {event['dtype']}, "
                f"{'plain PyTorch' if stage is None else f'ZeRO-{stage}'}, {width} on {event['device']}"
            )
        elif kind == "evaluation":
            self._line(f"  loss on held-out noise {event['when']}: {event['loss']:.4f}")
        elif kind == "resumed":
            self._line(f"  continues from step {event['step']}: {event['path']}")
        elif kind == "checkpoint":
            self._line(f"  checkpoint of step {event['step']}: {event['bytes'] / 2**20:,.0f} MiB")
        elif kind == "swap_removed":
            self._line(f"  removed what a dead run left on NVMe, {event['bytes'] / 2**20:,.0f} MiB: {event['path']}")
        elif kind == "rows_removed":
            size = f"{event['bytes'] / 2**20:,.0f} MiB"
            self._line(f"  removed what {event['source']} was unpacked to before it changed, {size}: {event['path']}")
        elif kind == "warning":
            self._line(f"warning: {event['message']}")

    def refresh(self) -> None:
        line = self._moving_line()
        if self._terminal:
            if line != self._drawn:
                self.clear()
                self._drawn = line  # before it is there: Ctrl-C may come as soon as it is, and wipes what is known of
                self._out.write(line)
                self._out.flush()
        elif line and self._clock() - self._told >= LINE_INTERVAL:
            self._line(line)

    def clear(self) -> None:
        if self._drawn:
            self._out.write("\r" + " " * len(self._drawn) + "\r")
            self._out.flush()
            self._drawn = ""

    def _line(self, text: str) -> None:
        self.clear()
        self._out.write(text + "\n")
        self._out.flush()
        self._told = self._clock()

    def _moving_line(self) -> str:
        progress = self._progress
        if not progress.phase:
            return ""
        width = shutil.get_terminal_size((80, 24)).columns - 1
        parts = [f"  {TITLES.get(progress.phase, progress.phase)}"]
        if progress.total:
            parts.append(bar(progress.done, progress.total, max(8, width // 5), ascii_only=self._ascii))
            parts.append(_amount(progress.done, progress.total))
        else:
            parts.append("…" if not self._ascii else "...")
        if progress.phase == "train" and progress.step:
            parts += _training_figures(progress)
        elif progress.seconds_left:
            parts.append(f"{duration(progress.seconds_left)} left")
        return " ".join(parts)[:width]


def _trained(model: dict[str, Any]) -> str:
    rank, whole = model.get("lora_rank"), f"{model['parameters'] / 1e6:,.1f} M"
    if rank is None:
        return f"U-Net with {whole} parameters"
    trained = model["trainable"]
    some = f"{trained / 1e6:,.1f} M" if trained >= 100_000 else f"{trained:,}"
    return f"LoRA of rank {rank}, {some} of {whole} parameters trained,"


def _amount(done: float, total: float) -> str:
    if total >= 10 * 2**20:  # bytes of a download
        return f"{done / 2**20:,.0f}/{total / 2**20:,.0f} MiB"
    return f"{done:.0f}/{total:.0f}"


def _training_figures(progress: Progress) -> list[str]:
    step, speed = progress.step, progress.steps_per_second
    figures = [f"loss {float(step['loss']):.4f}", f"lr {step['lr']:.1e}"]
    memory = step.get("vram_mib") or []
    if memory:
        figures.append(f"{max(rank['peak'] for rank in memory) / 1024:.1f} GiB")
    if speed:
        figures.append(f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s")
        figures.append(f"{duration((progress.total - progress.done) / speed)} left")
    return figures


def _summarise(run: RunDirectory, progress: Progress, current: RunStatus) -> None:
    if current.status is Status.LOST:
        outcome = read_outcome(run)
        tell(
            f"error: the supervisor of {run.name} died without a word (killed, or the machine went down)"
            f"{f'; its training {outcome.message}' if outcome else ''}\n"
            f"  log  {run.log}\nStart it again with the same --run-dir: it continues from its newest checkpoint."
        )
    elif current.status is Status.FAILED:
        tell(f"error: {current.state.get('message') or 'the run failed'}\n  log  {run.log}")
    for line in _results(run, progress, current):
        print(line)  # noqa: T201
    finished = current.status is Status.COMPLETED
    if finished and 0 < progress.parameters < SMALL and EXAMPLE.exists():
        print(NEXT_STEPS.format(command=_command(), example=EXAMPLE))  # noqa: T201
    sys.stdout.flush()


def _results(run: RunDirectory, progress: Progress, current: RunStatus) -> list[str]:
    seconds = progress.latest - progress.started
    lines = [
        f"{current.status.capitalize()} after {duration(seconds)}: {current.state.get('message', '')}".rstrip(": ")
    ]
    before, after = progress.evaluations.get("before"), progress.evaluations.get("after")
    if before is not None and after is not None:
        lines.append(f"  loss on held-out noise  {before:.4f} before, {after:.4f} after")
    for name, path in (
        ("checkpoint", progress.checkpoint),
        (Path(progress.pipeline).name, progress.pipeline),
        ("pictures", progress.pictures),
        ("run", str(run.path)),
    ):
        if path:
            lines.append(f"  {name:22}  {_short(path)}")
    if current.status in (Status.FAILED, Status.STOPPED) and _resumable(progress.checkpoint):
        answers, place = (shlex.quote(_short(str(path))) for path in (run.path / "answers.json", run.path))
        lines.append(f"  {'goes on with':22}  {_command()} --replay {answers} --run-dir {place}")
    return lines


def _resumable(checkpoint: str) -> bool:
    return any(each.resumable and str(each.path) == checkpoint for each in whole(Path(checkpoint).parent))


def _command() -> str:
    """This command as it would be typed here: by its path where the shell would not find it, or find another."""
    found = shutil.which("simpletuner-tui")
    here = Path(sys.argv[0])
    if not here.exists():  # started from within Python
        return "simpletuner-tui"
    return "simpletuner-tui" if found and here.samefile(found) else _short(sys.argv[0])


def _short(path: str) -> str:
    """As it would be typed here."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
