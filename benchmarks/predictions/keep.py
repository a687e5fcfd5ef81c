"""``python -m benchmarks.predictions.keep FILE``: what was measured becomes data that predictions are held against.

FILE is the ``measured.json`` of ``python -m benchmarks.predictions``. Its settings replace those of the same name in
``h200.json``, and the machine's speed comes into a file beside it; tests and the table take both from there.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.predictions.table import MEASURED
from launcher.machine.bandwidths import Bandwidths


def row(measured: dict[str, Any], machine: dict[str, Any], speed: str) -> dict[str, Any]:
    """One setting, as ``h200.json`` has it: MiB of the GPU that holds most, by how much its used memory grew."""
    (cost,) = measured["cost"]
    return {
        "measured": machine["day"],
        "process_mib": max(measured["from_outside_mib"]),
        "phases": cost["phases"],
        "host_mib": measured["from_outside_rss_mib"],
        "step_seconds": [step["seconds"]["total"] for step in measured["steps"]],
        "alone": measured["gpus"] == machine["gpus"],
        "speed": speed,
    }


def main() -> None:
    content, kept = json.loads(Path(sys.argv[1]).read_bytes()), json.loads(MEASURED.read_bytes())
    machine = content["machine"]
    speeds = {gpus: f"bandwidths-{machine['day']}-{gpus}.json" for gpus in machine["bandwidths"]}
    for gpus, file in speeds.items():
        speed = machine["bandwidths"][gpus]
        speed["hardware"]["uuid"] = ""
        (MEASURED.parent / file).write_bytes(Bandwidths.from_bytes(json.dumps(speed).encode()).to_bytes())
    for name, measured in content["settings"].items():
        if measured["code"] == 0:
            kept["settings"][name] = row(measured, machine, speeds[str(measured["gpus"])])
    MEASURED.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
