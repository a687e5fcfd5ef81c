"""The launcher's own run, by the command that a person types."""

import json
import shutil
import sys
from collections.abc import Sequence

from benchmarks.answers import Answers
from benchmarks.measuring import Command, environment_of
from launcher.machine.gpus import Gpu
from launcher.runs.directory import RunDirectory


def replayed(answers: Answers, run: RunDirectory, gpus: Sequence[Gpu]) -> Command:
    """Its answers and its log are written beside it; an earlier run of the same directory is removed.

    Args:
        answers: all of them.
        run: where it trains; the folder above is there.
        gpus: that it sees.
    """
    shutil.rmtree(run.path, ignore_errors=True)
    file = run.path.with_suffix(".json")
    file.write_text(json.dumps({"schema": 1, "answers": answers}))
    main = "from simpletuner_tui.cli import main; raise SystemExit(main())"
    argv = [sys.executable, "-c", main, "--replay", str(file), "--run-dir", str(run.path), "--force"]
    told = str(run.path)
    return Command(
        argv, [environment_of(gpus)], run.events_jsonl, file.with_suffix(".log"), "launcher.train", told, run
    )
