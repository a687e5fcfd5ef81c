"""``python -m benchmarks.predictions.keep FILE``: what was measured becomes data that predictions are held against.

FILE is the JSON of ``python -m benchmarks.predictions`` or of ``python -m benchmarks.training``. Its settings replace those of
the same name in ``measured.json``, but for the seconds of a step on other machines, which stay unless the build was an earlier
one; each machine's speed comes into a file beside it. Tests and the table take both from there.
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


def elsewhere(before: dict[str, Any] | None, speed: str) -> list[dict[str, Any]]:
    """Seconds of a step on other machines, of a row that is replaced by one of the machine with this speed."""
    if not before or not before.get("alone") or before.get("build") == "earlier":
        return []
    seen = [{key: before[key] for key in ("step_seconds", "alone", "speed")}, *before.get("elsewhere", [])]
    return [each for each in seen if each["speed"] != speed]


def main() -> None:
    content, kept = json.loads(Path(sys.argv[1]).read_bytes()), json.loads(MEASURED.read_bytes())
    for name in (CALIBRATION | HOLD_OUT | PRESETS).keys() & content["ours"].keys():
        measured = content["ours"][name]
        if measured["code"] == 0:
            machine = content["machines"][measured["machine"]]
            speed = f"bandwidths-{measured['machine']}.json"
            told = Bandwidths.from_bytes(json.dumps(machine["bandwidths"]).encode())
            (MEASURED.parent / speed).write_bytes(told.to_bytes())
            new, before = row(measured, machine["day"], speed), kept["settings"].get(name)
            if others := elsewhere(before, speed):
                new["elsewhere"] = others
            kept["settings"][name] = new
    MEASURED.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
