"""What NVML's readings say beside nvidia-smi, and what a look costs, as JSON.

    python benchmarks/nvidia_smi.py [--looks N]

``tests/gpu/test_readings.py`` holds the same two against each other. Start something on the GPU beside it to see
processes, power and PCIe rates that are not those of an idle card.
"""

import argparse
import json
import subprocess
import time
from dataclasses import asdict

from launcher.machine.nvml_sample import NvmlReader
from launcher.machine.reader import MachineReader

QUERIES = {
    "total_mib": "memory.total",
    "used_mib": "memory.used",
    "reserved_mib": "memory.reserved",
    "utilisation": "utilization.gpu",
    "temperature": "temperature.gpu",
    "power_w": "power.draw",
    "power_limit_w": "enforced.power.limit",
    "clock_mhz": "clocks.sm",
    "memory_clock_mhz": "clocks.mem",
    "ecc_errors": "ecc.errors.uncorrected.volatile.total",
    "throttled": "clocks_event_reasons.active",
}
"""Our names and nvidia-smi's."""


def query(of: str, fields: list[str]) -> list[list[str]]:
    """Rows that nvidia-smi prints."""
    command = ["nvidia-smi", f"--query-{of}={','.join(fields)}", "--format=csv,noheader,nounits"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [[cell.strip() for cell in line.split(",")] for line in lines if line.strip()]


def nvidia_smi() -> dict[str, dict[str, str]]:
    """By UUID and our names, as it prints them."""
    rows = query("gpu", ["uuid", *QUERIES.values()])
    return {uuid: dict(zip(QUERIES, cells, strict=True)) for uuid, *cells in rows}


def processes() -> dict[str, dict[str, str]]:
    """MiB by UUID and pid, as it prints them."""
    found: dict[str, dict[str, str]] = {}
    for uuid, pid, mib in query("compute-apps", ["gpu_uuid", "pid", "used_memory"]):
        found.setdefault(uuid, {})[pid] = mib
    return found


def cost(read, looks: int) -> dict[str, float]:
    """Of a look, in milliseconds: how long it takes, and how long a core is busy with it."""
    read()
    began, busy = time.perf_counter(), time.process_time()
    for _ in range(looks):
        read()
    return {
        "wall_ms": (time.perf_counter() - began) / looks * 1000,
        "cpu_ms": (time.process_time() - busy) / looks * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--looks", type=int, default=20)
    options = parser.parse_args()
    read = NvmlReader()
    if reason := read().none:
        raise SystemExit(reason)
    before, gpus, after = nvidia_smi(), read(), nvidia_smi()
    listed = processes()
    told = {
        "look": cost(read, options.looks),
        "machine_look": cost(MachineReader(read), options.looks),
        "gpus": [
            {
                "sample": asdict(gpu),
                "nvidia_smi_before": before.get(gpu.uuid),
                "nvidia_smi_after": after.get(gpu.uuid),
                "nvidia_smi_processes": listed.get(gpu.uuid, {}),
            }
            for gpu in gpus.gpus
        ],
    }
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
