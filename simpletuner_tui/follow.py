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
from launcher.runs.rehearsal import rehearsal_of
from launcher.runs.rehearsed import read_rehearsed
from launcher.runs.state import RunStatus, Status, status
from simpletuner_tui.event_lines import line_of, moving_line
from simpletuner_tui.failure import why_it_failed
from simpletuner_tui.messages import tell
from simpletuner_tui.progress import Progress
from simpletuner_tui.rehearsal_lines import rehearsal_lines
from simpletuner_tui.signs import Signs
from simpletuner_tui.text import duration

POLL = 0.2
"""Seconds between two looks at a run."""
LINE_INTERVAL = 15.0
"""Seconds between two lines of progress where there is no terminal."""
AT_ONCE = 16 * 2**20
"""Bytes of events that are read at once; a long run has told a gigabyte."""
SMALL = 1_000_000_000
"""Parameters below which a model is no SDXL and its owner is told what comes next."""

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
    progress, rehearses = Progress(), rehearsal_of(run) is not None
    try:
        current = watch(run, progress, as_json=as_json, offset=offset, refresh=refresh)
    except KeyboardInterrupt:
        return detach(run)
    if rehearses and not run.path.exists():
        tell(f"{run.name} is over and removed: who started the rehearsal was shown what it measured")
        return ExitCode.OK
    if not as_json:
        summarise(run, progress, current)
    return exit_code(current)


def watch(
    run: RunDirectory, progress: Progress, *, as_json: bool = False, offset: int = 0, refresh: float = POLL
) -> RunStatus:
    """Shows a run until it ends, and says nothing of its end; a terminal rings its bell then.

    Args:
        run: a run that was started.
        progress: takes its events in.
        as_json: its events on stdout, one a line, instead of progress on stderr.
        offset: bytes of its events to pass over.
        refresh: seconds between two looks.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was drawn is wiped.
    """
    show: _Lines | _Json = _Json() if as_json else _Lines(sys.stderr, progress)
    told_lost, went, signs = False, False, Signs(run)
    try:
        while True:
            current = status(run)  # asked first: what it tells of its end is then read below
            while (read := read_events(run.events_jsonl, offset, AT_ONCE))[1] > offset:
                events, offset = read
                for event in events:
                    progress.take(event)
                    show.event(event)
            if current.orphans and not told_lost:
                told_lost = True
                show.clear()
                tell(f"warning: the supervisor of {run.name} died; its training {_saves(run)}ends")
            for line in signs.lines(current):
                show.note(line)
            show.refresh()
            if not current.going:
                if went:
                    show.ring()
                return current
            went = True
            time.sleep(refresh)
    finally:
        show.clear()


def detach(run: RunDirectory) -> ExitCode:
    """Says how to come back to a run that goes on."""
    tell(
        f"\nDetached; {run.name} goes on.\n"
        f"  simpletuner-tui attach {run.name}    follows it again\n"
        f"  simpletuner-tui stop {run.name}      {_saves(run)}ends it"
    )
    return ExitCode.CANCELLED


def _saves(run: RunDirectory) -> str:
    return "" if rehearsal_of(run) else "saves a checkpoint and "


def exit_code(current: RunStatus) -> ExitCode:
    """What following a run to its end ends with."""
    if current.status in (Status.COMPLETED, Status.STOPPED):
        return ExitCode.OK
    code = current.state.get("exit_code")
    return ExitCode(code) if code in set(ExitCode) and code else ExitCode.RUN_FAILED


class _Json:
    """Events as they are."""

    def event(self, event: dict[str, Any]) -> None:
        print(json.dumps(event, ensure_ascii=False), flush=True)  # noqa: T201

    def note(self, text: str) -> None:
        """Only events are shown."""

    def ring(self) -> None:
        """Whoever reads this needs no bell."""

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
        if text := line_of(event):
            self._line(text)

    def note(self, text: str) -> None:
        self._line(text)

    def ring(self) -> None:
        """Its terminal's bell: a run that was waited for has ended."""
        if self._terminal:
            self._out.write("\a")

    def refresh(self) -> None:
        width = shutil.get_terminal_size((80, 24)).columns - 1
        line = moving_line(self._progress, width, ascii_only=self._ascii)
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


def summarise(run: RunDirectory, progress: Progress, current: RunStatus) -> None:
    """Says how a run ended: why it failed on stderr, what is left of it on stdout."""
    if reason := why_it_failed(run, current):
        tell(f"error: {reason}")
    for line in results(run, progress, current):
        print(line)  # noqa: T201
    finished = current.status is Status.COMPLETED and rehearsal_of(run) is None
    if finished and 0 < progress.parameters < SMALL and EXAMPLE.exists():
        print(NEXT_STEPS.format(command=_command(), example=EXAMPLE))  # noqa: T201
    sys.stdout.flush()


def results(run: RunDirectory, progress: Progress, current: RunStatus) -> list[str]:
    """How a run ended and what is left of it, where it lies among it; of a rehearsal, what it measured."""
    seconds = progress.latest - progress.started
    lines = [
        f"{current.status.capitalize()} after {duration(seconds)}: {current.state.get('message', '')}".rstrip(": ")
    ]
    if rehearsal_of(run) is not None and not current.failed:
        return [*lines, *rehearsal_lines(read_rehearsed(run))]
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
