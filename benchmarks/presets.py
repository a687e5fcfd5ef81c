"""``python benchmarks/presets.py``: writes anew what the estimate says of every preset, into ``presets.json``.

``measured`` beside it is filled by hand from a run of the true SDXL: ``training_mib`` is the process's memory while it
steps, as nvidia-smi prints it, ``least_mib`` the smallest card it was seen to run on, or as predicted; ``on`` names the
machine and the day.
"""

import json
from dataclasses import asdict
from pathlib import Path

from launcher.estimate import SDXL, estimate
from simpletuner_tui.answers import read_resolved
from simpletuner_tui.presets import INDEX, Figures, Preset, presets
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.session import probe_machine


def predicted(preset: Preset) -> Figures:
    settings = read_resolved(resolve(REGISTRY, preset.answers, probe_machine()), Path.cwd()).settings
    return Figures.of(estimate(settings, SDXL))


def main() -> None:
    content = json.loads(INDEX.read_bytes())
    by_name = {preset.name: preset for preset in presets()}
    for about in content["presets"]:
        about["predicted"] = asdict(predicted(by_name[about["name"]]))
    INDEX.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
