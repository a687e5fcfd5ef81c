"""Runs that exist: list them, follow one, stop one, read its log."""

import json
import sys
import time
from argparse import Namespace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from launcher.errors import ExitCode, InvalidInputError
from launcher.runs.checkpoint_request import request_checkpoint
from launcher.runs.diagnosis import diagnose
from launcher.runs.directory import RunDirectory
from launcher.runs.events import last_start
from launcher.runs.index import find, known_runs
from launcher.runs.rehearsal import rehearsal_of
from launcher.runs.state import Status, status
from launcher.runs.stop import ASKED, asked_before, end_now, request_stop
from simpletuner_tui.commands.front_ends import FrontEnd, front_end_for, run_app
from simpletuner_tui.follow import POLL, follow
from simpletuner_tui.messages import tell
from simpletuner_tui.run_rows import RunRow, run_rows
from simpletuner_tui.text import table

if TYPE_CHECKING:
    from simpletuner_tui.tui.quiet_app import QuietApp


def list_runs(arguments: Namespace) -> ExitCode:
    """``runs``: every run that is known, oldest first."""
    runs = run_rows(known_runs())
    if arguments.json:
        listed = [
            {
                "name": row.run.name,
                "path": str(row.run.path),
                "rehearsal": row.rehearsal,
                "status": row.now.status,
                "orphans": row.now.orphans,
                **row.now.state,
                "vitality": row.vital.to_json(),
                "diagnosis": known.to_json() if (known := diagnose(row.run, row.now)) else None,
            }
            for row in runs
        ]
        print(json.dumps(listed, indent=2))  # noqa: T201
        return ExitCode.OK
    if not runs:
        tell("no runs yet; `simpletuner-tui --replay FILE` starts one")
        return ExitCode.OK
    rows = [("NAME", "STATUS", "PHASE", "STEP", "STARTED", "FOLDER"), *map(_cells, runs)]
    print("\n".join(table(rows)), flush=True)  # noqa: T201
    for row in runs:
        if row.ill:
            tell(f"warning: {row.run.name}: {row.vital.message}")
    return ExitCode.OK


def attach(arguments: Namespace) -> ExitCode:
    """``attach RUN``: its dashboard, or its lines to its end."""
    run = find(arguments.run)
    if status(run).status is Status.PREPARED:
        raise InvalidInputError(f"{run.name} was never started; replay {run.answers} with --run-dir {run.path}")
    if not arguments.json and front_end_for(arguments) is FrontEnd.FULL_SCREEN:
        return run_app(partial(_dashboard, run, arguments))
    return follow(run, as_json=arguments.json, offset=last_start(run.events_jsonl), refresh=arguments.refresh or POLL)


def _dashboard(run: RunDirectory, arguments: Namespace) -> "QuietApp":
    from simpletuner_tui.tui.attach import attach_app  # noqa: PLC0415 - Textual is loaded only to be drawn with

    return attach_app(run, refresh=arguments.refresh, read_only=arguments.read_only)


def stop(arguments: Namespace) -> ExitCode:
    """``stop RUN``: a checkpoint, then the end; a second time, or ``--now``, the end at once."""
    run = find(arguments.run)
    now = status(run)
    if not now.going:
        raise InvalidInputError(f"{run.name} does not run: it is {now.status}")
    if arguments.now or asked_before(run):
        end_now(run, now.orphans)
        tell(f"{run.name} is ended at once, without a checkpoint")
        return ExitCode.OK
    request_stop(run, ASKED)
    whose = "its supervisor died; its training" if now.orphans else "it"
    if rehearsal_of(run):
        ends = "and ends; `stop` again ends it at once"
    else:
        ends = "saves a checkpoint and ends, however long that takes; `stop` again ends it at once, without one"
    tell(f"{run.name}: {whose} finishes the step, {ends}")
    return ExitCode.OK


def checkpoint(arguments: Namespace) -> ExitCode:
    """``checkpoint RUN``: one more checkpoint, at the end of the step under way; the run goes on."""
    run = find(arguments.run)
    request_checkpoint(run, status(run))
    tell(f"{run.name}: it finishes the step, saves a checkpoint and trains on; `attach {run.name}` shows it")
    return ExitCode.OK


def logs(arguments: Namespace) -> ExitCode:
    """``logs RUN``: what its processes wrote; ``--follow`` until it ends."""
    run = find(arguments.run)
    if not run.log.exists():
        raise InvalidInputError(f"{run.name} has no log yet")
    try:
        with run.log.open("rb") as log:
            while True:
                ended = not status(run).going
                while chunk := log.read(1 << 16):
                    sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()
                if ended or not arguments.follow:
                    return ExitCode.OK
                time.sleep(0.5)
    except KeyboardInterrupt:
        return ExitCode.CANCELLED  # of reading; the run does not care


def _cells(row: RunRow) -> tuple[str, ...]:
    started = "" if row.started is None else datetime.fromtimestamp(row.started).strftime("%Y-%m-%d %H:%M")
    return row.run.name, row.told, row.phase, row.step, started, str(row.run.path)
