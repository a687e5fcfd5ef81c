"""Where a run swaps to: a folder of its own below each NVMe path. Torch-free.

DeepSpeed names its files by parameter and rank only, so two runs on one path would overwrite each other's, and what one
leaves behind would be copied into every checkpoint of the next.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def swap_folders(config: Mapping[str, Any], run: Path) -> dict[str, Path]:
    """The folder below each NVMe path in use, by the path's place in DeepSpeed's JSON; below stage 3 none is.

    Args:
        config: as deepspeed.json holds it.
        run: the run directory; relative NVMe paths count from it.
    """
    run = run.resolve()
    zero = config["zero_optimization"]
    name = f"{run.name}-{hashlib.sha256(str(run).encode()).hexdigest()[:8]}"
    return {
        f"zero_optimization.{part}.nvme_path": run / zero[part]["nvme_path"] / name
        for part in ("offload_optimizer", "offload_param")
        if zero["stage"] == 3 and zero.get(part, {}).get("device") == "nvme"
    }
