"""``python -m benchmarks.predictions.keep FILE``: what was measured becomes data that predictions are held against.

FILE is the JSON of ``python -m benchmarks.predictions`` or of ``python -m benchmarks.training``. Its settings replace those of
the same name in ``measured.json``, and each machine's speed comes into a file beside it; tests and the table take both from there.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.predictions.settings import CALIBRATION, HOLD_OUT, PRESETS
from benchmarks.predictions.table import MEASURED
from launcher.machine.bandwidths import Bandwidths


def row(measured: dict[str, Any], day: str, speed: str) -> dict[str, Any]:
    """One setting, as ``measured.json`` has it: MiB of the GPU that holds most, by how much its used memory grew."""
    return {
        "measured": day,
        "process_mib": measured["device_mib"],
        "phases": measured["cost"],
        "host_mib": measured["host_mib"],
        "step_seconds": [step["total"] for step in measured["steps"]],
        "alone": not measured.get("shared", False),
        "speed": speed,
    }


def main() -> None:
    content, kept = json.loads(Path(sys.argv[1]).read_bytes()), json.loads(MEASURED.read_bytes())
    for name in (CALIBRATION | HOLD_OUT | PRESETS).keys() & content["ours"].keys():
        measured = content["ours"][name]
        if measured["code"] == 0:
            machine = content["machines"][measured["machine"]]
            speed = f"bandwidths-{measured['machine']}.json"
            told = Bandwidths.from_bytes(json.dumps(machine["bandwidths"]).encode())
            (MEASURED.parent / speed).write_bytes(told.to_bytes())
            kept["settings"][name] = row(measured, machine["day"], speed)
    MEASURED.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
