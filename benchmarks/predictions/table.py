"""``python -m benchmarks.predictions.table``: predictions beside what was measured (``measured.json``), as Markdown."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from benchmarks.answers import settings_of
from benchmarks.predictions.settings import CALIBRATION, HOLD_OUT, PRESETS
from benchmarks.reading import WARM_UP
from launcher.estimate import SDXL, Estimate, estimate
from launcher.machine.bandwidths import Bandwidths

MEASURED = Path(__file__).parent / "measured.json"


@dataclass(frozen=True, slots=True)
class Pair:
    """A setting's prediction and its measurement."""

    name: str
    measured: dict[str, Any]
    on: Mapping[str, Estimate]
    """Its prediction, by the file of a machine's speed."""

    @property
    def predicted(self) -> Estimate:
        """For the machine on which memory was measured."""
        return self.on[self.measured["speed"]]

    @property
    def gpu_mib(self) -> int:
        """Of the process at its peak, as measured: without what the launcher has done away with since."""
        return self.measured["process_mib"] - self.measured.get("less_mib", 0)

    @property
    def gpu_error(self) -> float:
        """Of that."""
        return self.predicted.gpu_mib / self.gpu_mib - 1

    @property
    def host_error(self) -> float:
        """Of resident host memory at its peak."""
        return self.predicted.host_mib / self.measured["host_mib"] - 1

    @property
    def steps(self) -> list[tuple[float, float]]:
        """Seconds of a step, measured once it goes evenly and predicted, on each machine.

        Not where others shared the machine's cores and memory, nor of an earlier build whose steps took the host longer.
        """
        seen = [self.measured, *self.measured.get("elsewhere", [])]
        held = [each for each in seen if each.get("alone") and self.measured.get("build") != "earlier"]
        both = [(median(each["step_seconds"][WARM_UP:]), self.on[each["speed"]].step_seconds) for each in held]
        return [(measured, predicted) for measured, predicted in both if predicted]

    @property
    def step_error(self) -> float | None:
        """Of that, on the machines' geometric mean: each is faster or slower from hour to hour."""
        return geometric_mean([predicted / measured for measured, predicted in self.steps]) - 1 if self.steps else None


def predict(answers: dict[str, Any], speed: str) -> Estimate:
    """What the launcher says of these answers for SDXL.

    Args:
        answers: by id.
        speed: the file beside this one that ``launcher.probes.bandwidths`` wrote on the machine.
    """
    settings = settings_of({"training.instance_data_dir": ".", **answers})
    return estimate(settings, SDXL, speed=Bandwidths.from_bytes((MEASURED.parent / speed).read_bytes()))


def pairs(settings: dict[str, dict[str, Any]]) -> list[Pair]:
    """Of those that were measured."""
    measured = json.loads(MEASURED.read_text())["settings"]
    return [_pair(name, answers, measured[name]) for name, answers in settings.items() if name in measured]


def _pair(name: str, answers: dict[str, Any], measured: dict[str, Any]) -> Pair:
    speeds = [each["speed"] for each in (measured, *measured.get("elsewhere", []))]
    return Pair(name, measured, {speed: predict(answers, speed) for speed in speeds})


def _step(pair: Pair) -> tuple[str, str, str]:
    if pair.step_error is None:
        return "", "", ""
    measured, predicted = (", ".join(f"{seconds:.2f}" for seconds in each) for each in zip(*pair.steps, strict=True))
    return measured, predicted, f"{pair.step_error:+.0%}"


def main() -> None:
    for title, settings in (("fitted on", CALIBRATION), ("held out", HOLD_OUT), ("presets", PRESETS)):
        print(f"| {title} | process, MiB | predicted | | peak in | host, MiB | predicted | | a step, s | predicted | |")
        print("|" + " --- |" * 11)
        for pair in pairs(settings):
            gpu, host = pair.gpu_mib, pair.measured["host_mib"]
            cells = [
                pair.name, f"{gpu:,}", f"{pair.predicted.gpu_mib:,}", f"{pair.gpu_error:+.1%}",
                pair.predicted.gpu_peak.name, f"{host:,}", f"{pair.predicted.host_mib:,}", f"{pair.host_error:+.1%}",
                *_step(pair),
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |")
        print()


if __name__ == "__main__":
    main()
