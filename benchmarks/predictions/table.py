"""``python -m benchmarks.predictions.table``: predictions beside what an H200 measured (``h200.json``), as Markdown."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.predictions.settings import CALIBRATION, HOLD_OUT
from launcher.estimate import SDXL, Estimate, estimate
from simpletuner_tui.answers import read_answers, read_resolved
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.model import resolve
from simpletuner_tui.session import probe_machine

MEASURED = Path(__file__).parent / "h200.json"


@dataclass(frozen=True, slots=True)
class Pair:
    """A setting's prediction and its measurement."""

    name: str
    predicted: Estimate
    measured: dict[str, Any]

    @property
    def gpu_error(self) -> float:
        """Of the process at its peak, relative to what was measured."""
        return self.predicted.gpu_mib / self.measured["process_mib"] - 1

    @property
    def host_error(self) -> float:
        """Of resident host memory at its peak."""
        return self.predicted.host_mib / self.measured["host_mib"] - 1


def predict(answers: dict[str, Any]) -> Estimate:
    """What the launcher says of these answers for SDXL, as this machine has it or not."""
    file = json.dumps({"schema": 1, "answers": {"training.instance_data_dir": ".", **answers}}).encode()
    given = read_answers(file, Path.cwd(), "answers")
    resolved = resolve(REGISTRY, given.values, probe_machine())
    return estimate(read_resolved(resolved, given.base).settings, SDXL)


def pairs(settings: dict[str, dict[str, Any]]) -> list[Pair]:
    """Of those that were measured."""
    measured = json.loads(MEASURED.read_text())["settings"]
    return [Pair(name, predict(settings[name]), measured[name]) for name in settings if name in measured]


def main() -> None:
    for title, settings in (("fitted on", CALIBRATION), ("held out", HOLD_OUT)):
        print(f"| {title} | process, MiB | predicted | | peak in | host, MiB | predicted | |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for pair in pairs(settings):
            gpu, host = pair.measured["process_mib"], pair.measured["host_mib"]
            cells = [
                pair.name, f"{gpu:,}", f"{pair.predicted.gpu_mib:,}", f"{pair.gpu_error:+.1%}",
                pair.predicted.gpu_peak.name, f"{host:,}", f"{pair.predicted.host_mib:,}", f"{pair.host_error:+.1%}",
            ]  # fmt: skip
            print(f"| {' | '.join(cells)} |")
        print()


if __name__ == "__main__":
    main()
