"""``python -m benchmarks.predictions.table``: predictions beside what was measured (``measured.json``), as Markdown."""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
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
    predicted: Estimate
    measured: dict[str, Any]

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
    def step_seconds(self) -> float | None:
        """Measured once it goes evenly; None where others shared the machine's cores and memory, or where the build was
        an earlier one whose steps took the host longer."""
        held = self.measured.get("alone") and self.measured.get("build") != "earlier"
        return median(self.measured["step_seconds"][WARM_UP:]) if held else None

    @property
    def step_error(self) -> float | None:
        """Of that."""
        seconds, predicted = self.step_seconds, self.predicted.step_seconds
        return predicted / seconds - 1 if seconds and predicted else None


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
    return [
        Pair(name, predict(settings[name], measured[name]["speed"]), measured[name])
        for name in settings
        if name in measured
    ]


def _step(pair: Pair) -> tuple[str, str, str]:
    if pair.step_seconds is None or pair.step_error is None:
        return "", "", ""
    return f"{pair.step_seconds:.2f}", f"{pair.predicted.step_seconds:.2f}", f"{pair.step_error:+.0%}"


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
