"""Weights that come faster than a real GPU computes take no more of it than they may. Skipped where there is no GPU."""

import json
import os
import subprocess
import sys

import pytest

from harness.gpu_fetching import AHEAD, LIVE, MIB
from launcher.machine.gpus import read_nvml

NVML = read_nvml()
BYTES, SLACK = 2, 8
"""Of an element in bf16; MiB of activations."""

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not NVML.gpus, reason=NVML.reason or "no GPU"),
    pytest.mark.timeout(300),
]


def test_a_slow_gpu_holds_no_more_weights_than_may_be_gathered(tmp_path):
    (tmp_path / "job.json").write_text("{}")
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "DS_ACCELERATOR")}
    command = [sys.executable, "-m", "harness.rank", "harness.gpu_fetching", str(tmp_path / "job.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads((tmp_path / "told.json").read_text())
    print("MiB held in a forward pass", told)
    assert told["ours"] < (LIVE + AHEAD) * BYTES / MIB + SLACK
    assert told["theirs"] > 2 * told["ours"], "DeepSpeed's own does not wait for the GPU"
