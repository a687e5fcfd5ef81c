"""``python -m benchmarks.predictions OUT [NAME ...]``: what settings take on the GPUs at hand; all of them without NAME.

Those that ``benchmarks.training`` measures beside stock DeepSpeed are left to it.

SDXL's true architecture with random weights and square pictures are made in OUT; every setting trains a few steps through
the command a person types, caches included, in processes of its own. On several GPUs one setting goes on each side by
side, on its share of the cores, and those that want two take all of the machine afterwards.

OUT/measured.json is written after every measurement; what is there with the same answers is kept. ``python -m
benchmarks.predictions.keep FILE`` makes data of it, and ``python -m benchmarks.predictions.table`` a table beside
predictions, on any machine.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import Queue
from threading import Lock

import psutil

from benchmarks.answers import Answers
from benchmarks.machine import describe, gpus_here, machine_id
from benchmarks.making import make_sdxl
from benchmarks.measuring import measure
from benchmarks.predictions.settings import BESIDE_STOCK, CALIBRATION, HOLD_OUT, PRESETS
from benchmarks.replaying import replayed
from benchmarks.results import Results
from launcher.machine.gpus import Gpu
from launcher.runs.directory import RunDirectory

COPIES = 4
"""Of each of the eight square pictures: more than any setting's step takes."""
TOLD = ("code", "seconds", "device_mib", "host_mib", "step_seconds")
"""Of a measurement, at once; the JSON has it all."""


class Session:
    """One invocation."""

    def __init__(self, out: Path, results: Results, gpus: Sequence[Gpu]) -> None:
        """Measures nothing yet.

        Args:
            out: has the model and the pictures.
            results: get what is measured.
            gpus: of the machine.
        """
        self._out, self._results, self._gpus, self._writing = out, results, gpus, Lock()

    def run(self, wanted: dict[str, Answers]) -> None:
        """Those that this machine has enough GPUs for."""
        alone = {name: answers for name, answers in wanted.items() if answers.get("accelerate.num_processes", 1) == 1}
        free: Queue[int] = Queue()
        for place in range(len(self._gpus)):
            free.put(place)

        def on_one(name: str) -> None:
            place = free.get()
            try:
                self._measure(name, alone[name], [self._gpus[place]], self._share_of_cores(place))
            finally:
                free.put(place)

        with ThreadPoolExecutor(len(self._gpus)) as pool:
            list(pool.map(on_one, alone))
        if len(self._gpus) > 1:
            for name in wanted:
                if name not in alone:
                    self._measure(name, wanted[name], self._gpus[:2], ())

    def _share_of_cores(self, place: int) -> Sequence[str]:
        """The beginning of a command that leaves other GPUs' settings theirs."""
        share = (psutil.cpu_count() or 1) // len(self._gpus)
        return ("taskset", "-c", f"{place * share}-{(place + 1) * share - 1}")

    def _measure(self, name: str, answers: Answers, gpus: Sequence[Gpu], on_cores: Sequence[str]) -> None:
        folder = self._out / name.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)  # what a command that was killed left there
        folder.mkdir()
        places = {
            "training.pretrained_model_name_or_path": str(self._out / "model"),
            "training.instance_data_dir": str(self._out / "square"),
            "training.cache_dir": str(folder / "cache"),
        }
        command = replayed(answers | places, RunDirectory(folder / "run"), gpus)
        measured = measure(replace(command, argv=[*on_cores, *command.argv]), gpus)
        shutil.rmtree(folder, ignore_errors=True)
        measured["shared"] = len(gpus) == 1 < len(self._gpus)
        with self._writing:
            self._results.put("ours", name, {"answers": answers}, measured)
        print(name, json.dumps({key: measured[key] for key in TOLD}), flush=True)
        if measured["code"]:
            print(measured["log"], flush=True)


def main() -> None:
    settings = CALIBRATION | HOLD_OUT | PRESETS
    every = {name: answers for name, answers in settings.items() if name not in BESIDE_STOCK}
    made = argparse.ArgumentParser(prog="python -m benchmarks.predictions", description=__doc__)
    made.add_argument("out", type=Path, help="a folder; it takes some 10 GB, and 40 for each GPU")
    made.add_argument("names", nargs="*", default=list(every), metavar="NAME")
    made.add_argument("--results", type=Path, help="the JSON; OUT/measured.json by default")
    chosen = made.parse_args()
    if unknown := [name for name in chosen.names if name not in every]:
        sys.exit(f"there is no setting called {', '.join(unknown)}; there are: {', '.join(every)}")
    gpus = gpus_here()
    if not gpus:
        sys.exit("no NVIDIA GPU is seen here")
    out = chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    make_sdxl(out, COPIES)
    results = Results(chosen.results or out / "measured.json", machine_id(gpus), tiny=False)
    if not results.has_machine():
        results.put_machine(describe(gpus, out / "bandwidths.json", tiny=False))
    wanted = {name: every[name] for name in chosen.names if not results.has("ours", name, {"answers": every[name]})}
    Session(out, results, gpus).run(wanted)


if __name__ == "__main__":
    main()
