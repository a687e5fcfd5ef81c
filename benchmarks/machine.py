"""What is measured on: hardware, versions, bandwidths."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from launcher.machine.gpus import Gpu, read_nvml, visible
from launcher.machine.host import read_host
from launcher.machine.packages import installed_version

PACKAGES = ("torch", "deepspeed", "accelerate", "diffusers", "transformers", "torchao", "bitsandbytes")


def gpus_here() -> list[Gpu]:
    """Those that CUDA shows, in its order; none on a machine without."""
    return list(visible(read_nvml(), os.environ.get("CUDA_VISIBLE_DEVICES")).gpus)


def machine_id(gpus: list[Gpu]) -> str:
    """Tells machines apart and names none."""
    own = gpus[0].uuid if gpus else platform.node()
    return hashlib.sha256(f"{own} {len(gpus)}".encode()).hexdigest()[:8]


def describe(gpus: list[Gpu], bandwidths: Path, *, tiny: bool) -> dict[str, Any]:
    """Hardware, versions, and bandwidths as ``simpletuner-tui measure`` tells them, measured now.

    Args:
        gpus: that are used.
        bandwidths: a file for those.
        tiny: takes seconds, for its shape.
    """
    host = read_host()
    size = ("--elements", "1000000", "--threads", "1") if tiny else ()
    subprocess.run([sys.executable, "-m", "launcher.probes.bandwidths", bandwidths, *size], check=True)
    measured = json.loads(bandwidths.read_bytes())
    measured["hardware"]["uuid"] = ""
    return {
        "day": date.today().isoformat(),
        "gpu": gpus[0].name if gpus else None,
        "gpus": len(gpus),
        "gpu_mib": gpus[0].total_mib if gpus else None,
        "driver": read_nvml().driver or None,
        "cpu": _cpu(),
        "cores": host.cores,
        "ram_gib": round(host.total_mib / 1024),
        "versions": {
            "python": platform.python_version(),
            **{name: found for name in PACKAGES if (found := installed_version(name))},
        },
        "bandwidths": measured,
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
