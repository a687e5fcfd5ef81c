"""``python -m benchmarks.training OUT``: this launcher beside stock DeepSpeed and peers, on the machine at hand.

The rows are in ``rows.py``. SDXL's true architecture with random weights, square pictures, caches, batches and DeepSpeed's
extensions are made in OUT once. Then each setting is trained a few steps, in fresh processes, stock directly beside ours: the
launcher through the command that a person types, its own loop and data; stock DeepSpeed (``benchmarks/stock_zero.py``) and
peers in a plain loop over the same batches from the same weights.

From outside, NVML is asked every 20 ms, from before a process starts until it has ended, what the process holds and by how
much the GPU's used memory grew; the processes tell the rest: phases, torch's own peaks, losses, and **seconds of a step**,
which are wall time from the end of the step before to its own end, data included, one wait for the device at its end, on
every side. Those of a step's phases are CUDA events'. The launcher's run ends with the save of its weights, which is in its
peak, with no export and no evaluation; its caches are made before it.

OUT/measured.json is written after every measurement; what is there with the same settings is kept, so the command goes on
where it stopped. ``python -m benchmarks.training.table`` makes Markdown of it.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.machine import describe, gpus_here, machine_id
from benchmarks.measuring import Command, measure
from benchmarks.reading import WARM_UP
from benchmarks.results import Asked, Results
from benchmarks.training.commands import Place
from benchmarks.training.rows import PEERS, ROWS, STEPS, STOCK, Peer, Row, Setting, tiny
from launcher.machine.packages import is_installed

KINDS = ("ours", "stock", "bare", "peers")
TOLD = ("code", "seconds", "process_mib", "device_mib", "torch_mib", "host_mib", "engine_seconds", "step_seconds")
"""Of a measurement, at once; the JSON has it all."""


class Session:
    """One invocation."""

    def __init__(
        self, place: Place, results: Results, rows: Sequence[Row], peers: Sequence[Peer], only: Sequence[str]
    ) -> None:
        """Measures nothing yet.

        Args:
            place: where.
            results: what is known, and gets the rest.
            rows: that are wanted.
            peers: that are wanted.
            only: the kinds of measurement that are.
        """
        self._place, self._results, self._rows, self._peers, self._only = place, results, rows, peers, only
        self._prepared = False

    def run(self) -> None:
        """Everything that is not known yet."""
        for setting in dict.fromkeys(row.setting for row in self._rows):
            self._setting(setting, [row for row in self._rows if row.setting == setting])
        for peer in self._peers:
            self._peer(peer)

    def _prepare(self) -> None:
        """What all share, before the first measurement; it counts for the peak of making caches alone."""
        if self._prepared:
            return
        self._place.make()
        if not self._results.has_machine():
            self._results.put_machine(
                describe(self._place.gpus, self._place.out / "bandwidths.json", tiny=self._place.tiny)
            )
        wanted = {
            each.setting: self._place.answers(each.setting, each.answers or {}) for each in (*self._peers, *self._rows)
        }
        measured = measure(self._place.preparing(wanted), self._place.gpus)
        if measured["code"]:
            sys.exit(f"preparing failed:\n{measured['log']}")
        if "latents" in measured["phases"]:
            self._results.put("caches", "caches", {"settings": [setting.name for setting in wanted]}, measured)
        self._prepared = True

    def _setting(self, setting: Setting, rows: Sequence[Row]) -> None:
        """Stock directly beside the rows of its setting: after the first, before the others."""
        first, *others = rows
        begun = self._row(first)
        kept = [self._results.has("ours", row.name, self._asked(row)) for row in others]
        asked: Asked = {"command": STOCK, "steps": self._place.steps}
        # Ours is held against stock of the same machine.
        self._take("stock", setting.name, asked, lambda: self._place.loop(setting, STOCK), here=begun or not all(kept))
        for row in others:
            self._row(row)
        for row in reversed(rows):
            if row.bare and self._place.run(row.name).plan_json.exists():  # else it was measured elsewhere
                self._take("bare", row.name, self._asked(row), lambda row=row: self._place.bare(row.name, setting))

    def _row(self, row: Row) -> bool:
        """Whether it was measured now."""
        return self._take(
            "ours", row.name, self._asked(row), lambda: self._place.ours(row.name, row.setting, row.answers)
        )

    def _asked(self, row: Row) -> Asked:
        """What a row's measurements depend on."""
        return {"answers": row.answers, "steps": self._place.steps}

    def _peer(self, peer: Peer) -> None:
        """What is not installed is said."""
        asked: Asked = {"answers": peer.answers, "command": peer.command, "steps": self._place.steps}
        if peer.package and not is_installed(peer.package):
            self._results.put("peers", peer.name, asked, {"code": None, "missing": peer.package})
            return
        self._take(
            "peers",
            peer.name,
            asked,
            lambda: (
                self._place.loop(peer.setting, peer.command)
                if peer.answers is None
                else self._place.ours(peer.name, peer.setting, peer.answers)
            ),
        )

    def _take(self, kind: str, name: str, asked: Asked, command: Callable[[], Command], *, here: bool = False) -> bool:
        """Measures what is not known yet; whether it did."""
        if kind not in self._only or self._results.has(kind, name, asked, here=here):
            return False
        self._prepare()
        made = command()
        measured = measure(made, self._place.gpus)
        if made.run:
            shutil.rmtree(made.run.path / "checkpoints", ignore_errors=True)
        self._results.put(kind, name, asked, measured)
        print(kind, name, json.dumps({key: measured[key] for key in TOLD}), flush=True)
        if measured["code"]:
            print(measured["log"], flush=True)
        return True


def chosen(patterns: Sequence[str], gpus: int) -> tuple[list[Row], list[Peer]]:
    """The rows and peers of these names that so many GPUs can train."""

    def is_wanted(name: str) -> bool:
        return any(fnmatch(name, pattern) for pattern in patterns)

    rows = [row for name, row in ROWS.items() if is_wanted(name) and row.setting.gpus <= max(1, gpus)]
    return rows, [peer for name, peer in PEERS.items() if is_wanted(name)]


def main(argv: Sequence[str] | None = None) -> None:
    """Measures what the command line names; the process's own by default."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    made.add_argument("out", type=Path, help="a folder; it takes some 20 GB")
    made.add_argument("--rows", nargs="+", default=["*"], metavar="NAME", help="of rows or peers, with * and ?")
    made.add_argument("--only", nargs="+", default=KINDS, choices=KINDS)
    made.add_argument("--steps", type=int, default=STEPS, help=f"of each measurement; the first {WARM_UP} do not count")
    made.add_argument("--results", type=Path, help="the JSON; OUT/measured.json by default")
    made.add_argument(
        "--tiny", action="store_true", help="a tiny SDXL on the CPU: for the shape of it all, not its times"
    )
    arguments = made.parse_args(argv)
    gpus = [] if arguments.tiny else gpus_here()
    rows, peers = chosen(arguments.rows, len(gpus))
    if not gpus and not arguments.tiny:
        sys.exit("no NVIDIA GPU is seen here; --tiny shows the shape of it all on a CPU")
    if not rows and not peers:
        sys.exit(f"nothing is called so here; there are: {', '.join([*ROWS, *PEERS])}")
    if arguments.tiny:
        rows, peers = list(map(tiny, rows)), []
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    place = Place(out, arguments.steps, arguments.tiny, gpus)
    results = Results(arguments.results or out / "measured.json", machine_id(gpus), tiny=arguments.tiny)
    Session(place, results, rows, peers, arguments.only).run()


if __name__ == "__main__":
    main()
