"""``TORCH_CUDA_ARCH_LIST``: held against the code of the installed DeepSpeed that reads it."""

import json
import os
import subprocess
import sys

import pytest

from launcher.machine.arch_list import not_parsed

DEEPSPEED = """
import json, os, sys
from deepspeed.ops.op_builder.fused_adam import FusedAdamBuilder
told = {}
for value in json.load(sys.stdin):
    os.environ["TORCH_CUDA_ARCH_LIST"] = value
    builder = FusedAdamBuilder()
    builder.jit_mode, builder._jit_arch_list = True, value.strip() or None
    try:
        builder.compute_capability_args()
        told[value] = True
    except (ValueError, IndexError):
        told[value] = False
print(json.dumps(told))
"""
READ = ("8.6", "8.6;9.0+PTX", "6.0 6.1 10.0+PTX", "9.0;", " 8.0 ", "7.0;;8.0", "12.1", "8.0.1", "8.6+ptx")
NOT_READ = {
    "native": "native",
    "Hopper": "Hopper",
    "8.0;Ampere+Tegra": "Ampere+Tegra",
    "9.0a": "9.0a",
    "8.0,8.6": "8.0,8.6",
    "80": "80",
    "sm_90": "sm_90",
    "8.0;90": "90",
    "8.6 +PTX": "+PTX",
    "8.6\t9.0": "8.6\t9.0",
    "8.": "8.",
    ".6": ".6",
}


@pytest.fixture(scope="module")
def deepspeed() -> dict[str, bool]:
    """What DeepSpeed itself makes of each."""
    done = subprocess.run(
        [sys.executable, "-c", DEEPSPEED],
        input=json.dumps([*READ, *NOT_READ]),
        env={**os.environ, "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("value", READ)
def test_what_deepspeed_reads_is_read(deepspeed, value):
    assert (not_parsed(value), deepspeed[value]) == (None, True)


@pytest.mark.parametrize("value", NOT_READ)
def test_what_it_cannot_read_is_named(deepspeed, value):
    assert (not_parsed(value), deepspeed[value]) == (NOT_READ[value], False)


@pytest.mark.parametrize("value", ["", "  ", ";"])
def test_nothing_is_no_fault(value):
    assert not_parsed(value) is None
