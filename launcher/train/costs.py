"""What a run takes beside what was predicted for it: at its end, and where the GPU's memory does not suffice."""

import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from launcher.errors import RunFailedError
from launcher.runs.diagnosis.gpu_memory import changes, what_happened
from launcher.runs.directory import RunDirectory
from launcher.train.distributed import World
from launcher.train.memory import Held
from launcher.train.report import Report

PHASES = {
    "load": "load",
    "captions": "caching",
    "latents": "caching",
    "engine": "init",
    "train": "step",
    "pictures": "validation",
    "samples": "validation",
    "save": "save",
    "export": "save",
}
"""The estimate's phase that each of a run's belongs to; the others take nothing that counts."""
MISS = 0.05
"""A prediction that is further off is told of, so that it can be mended."""
MEASURED = ("caching", "load", "init", "step", "validation", "save")
"""The estimate's phases, in the order of a run."""


@dataclass(frozen=True, slots=True)
class Beside:
    """A prediction and what was measured; MiB, or seconds of a step."""

    what: str
    """``gpu``, ``host`` or ``step_seconds``."""
    phase: str | None
    predicted: float
    measured: float

    @property
    def off(self) -> float:
        """By how much of the measured figure the prediction is too high."""
        return self.predicted / self.measured - 1


class Costs:
    """Collects what one rank takes, from what its report tells."""

    def __init__(self, report: Report) -> None:
        """Listens from here on."""
        self._report = report
        self._seconds: list[float] = []
        report.add_follower(self._see)

    def tell(self, run: RunDirectory, world: World) -> None:
        """Writes the event ``cost``, and a warning where the prediction missed; every rank calls it."""
        meter = self._report.meter
        if meter is None:
            return  # on a CPU nothing is predicted
        mine = self._by_phase()
        figures = [value for name in MEASURED for value in asdict(mine.get(name, Held())).values()]
        rows = world.gather([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, *figures])
        highest = [max(column) for column in zip(*rows, strict=True)][1:]
        peaks = {name: Held(*map(int, highest[3 * n : 3 * n + 3])) for n, name in enumerate(MEASURED)}
        estimate = run.plan()["estimate"]
        compared = compare(estimate, peaks, sum(row[0] for row in rows), self._seconds)
        self._report.event(
            "cost",
            phases={name: asdict(held) for name, held in peaks.items() if held.reserved},
            compared=[asdict(each) for each in compared],
        )
        for each in compared:
            if each.phase is None and each.what != "step_seconds" and abs(each.off) > MISS:
                self._report.warning(_missed(each, run))

    def out_of_memory(self, run: RunDirectory) -> RunFailedError:
        """What ran out of GPU memory and what to change; the event ``out_of_memory`` has the figures."""
        report = self._report
        name = report.under_way[-1] if report.under_way else "start"
        phase = PHASES.get(name, name)
        held = report.meter.now() if report.meter else Held()
        predicted = predicted_phases(run.plan()["estimate"]).get(phase)
        report.event("out_of_memory", phase=phase, measured=asdict(held), predicted_mib=predicted)
        return RunFailedError(f"{what_happened(name, asdict(held), predicted)}; {', or '.join(changes(phase, run))}")

    def _by_phase(self) -> dict[str, Held]:
        peaks: dict[str, Held] = {}
        for name, held in self._report.peaks.items():
            if name in PHASES:
                peaks[PHASES[name]] = held.or_more(peaks.get(PHASES[name], Held()))
        return peaks

    def _see(self, name: str, fields: dict[str, Any]) -> None:
        if name == "step":
            self._seconds.append(fields["seconds"]["total"])


def compare(
    estimate: Mapping[str, Any], peaks: Mapping[str, Held], host_mib: float, seconds: list[float]
) -> list[Beside]:
    """Predictions beside measurements: each phase, the GPU's peak, the host, a step.

    Args:
        estimate: as plan.json holds it.
        peaks: of the GPU by the estimate's phases, the largest of all ranks.
        host_mib: resident memory at its peak, all ranks together.
        seconds: of each step; the first is left out, it is slower.
    """
    predicted = predicted_phases(estimate)
    compared = [
        Beside("gpu", name, predicted[name], held.process)
        for name, held in peaks.items()
        if held.process and name in predicted
    ]
    if process := max((held.process for held in peaks.values()), default=0):
        compared.append(Beside("gpu", None, estimate["gpu_mib"], process))
    compared.append(Beside("host", None, estimate["host_mib"], host_mib))
    if estimate["step_seconds"] and seconds[1:]:
        compared.append(Beside("step_seconds", None, estimate["step_seconds"], median(seconds[1:])))
    return compared


def predicted_phases(estimate: Mapping[str, Any]) -> dict[str, int]:
    """MiB of the process by phase, of an estimate as plan.json holds it."""
    return {phase["name"]: phase["process_mib"] for phase in estimate["gpu"]}


def _missed(each: Beside, run: RunDirectory) -> str:
    where = "each GPU" if each.what == "gpu" else "host memory"
    return (
        f"{where}: {each.measured:,.0f} MiB at the peak, and {each.predicted:,.0f} MiB were predicted "
        f"({each.off:+.0%}); to have the prediction mended, report it with {run.path / 'plan.json'} and "
        f"{run.events_jsonl.name} beside it"
    )
