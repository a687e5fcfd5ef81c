"""One process on one GPU creates no NCCL. Skipped where there is no GPU."""

import json
import os
import subprocess
import sys

import pytest

from launcher.machine.gpus import read_nvml

NVML = read_nvml()
LIBRARIES_MIB = 300
"""Kernels, cuBLAS and cuBLASLt take some 150 of an H200 beside its context; NCCL would take 556 more."""

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not NVML.gpus, reason=NVML.reason or "no GPU"),
    pytest.mark.timeout(300),
]


def test_a_process_alone_trains_and_saves_without_nccl(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key not in ("RANK", "DS_ACCELERATOR")}
    command = [sys.executable, "-m", "harness.rank", "harness.one_gpu", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(told)
    assert told["backend"] == "gloo"
    assert told["ordered"]
    assert told["trained"]
    for name, outside in told["trained"].items():
        assert outside - told["context"] < LIBRARIES_MIB, name
