"""The probe as a real process, with tensors that take a moment; of its GPU part what a CPU can do."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D

from harness.h200 import H200
from launcher.machine.bandwidths import Bandwidths, known, this_hardware
from launcher.probes.bandwidths import blocks, clock
from launcher.probes.bandwidths.blocks import RESNET, TRANSFORMER, Kind, block_speed

PROBE = (sys.executable, "-m", "launcher.probes.bandwidths")


def test_it_measures_this_machine_and_its_figures_are_known_afterwards(tmp_path, monkeypatch, extensions):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    options = ("--elements", "2000000", "--threads", "1", "--nvme", str(tmp_path))
    told = subprocess.run([*PROBE, *options], check=True, capture_output=True, text=True, env=os.environ).stdout
    measured = Bandwidths.from_bytes(told.encode())
    assert known(this_hardware(1)) == measured
    assert measured.gpu is None
    assert measured.host.adam == "DeepSpeed's CPUAdam"
    assert 0.1 < measured.host.copy_gb_s < 1000
    host = measured.host
    for speed in (host.scale_elements_s, host.adam_elements_s, host.convert_elements_s, host.one_pass_elements_s):
        assert 1e7 < speed < 1e12
    assert measured.drive.path == str(tmp_path)
    assert min(measured.drive.write_gb_s, measured.drive.read_gb_s) > 0
    assert not [left for left in tmp_path.iterdir() if left.name != "cache"]
    assert 0 <= time.time() - measured.time < 60
    assert json.loads(told).keys() == json.loads(H200.to_bytes()).keys()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    missing = tmp_path / "missing"
    command = [*PROBE, str(tmp_path / "out"), "--elements", "1000", "--nvme", str(missing)]
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 3
    assert f"{missing} cannot be measured: No such file or directory; name another folder" in run.stderr
    assert not (tmp_path / "out").exists()


NARROW = {
    "transformer": Kind(
        lambda: BasicTransformerBlock(64, 2, 32, cross_attention_dim=32),
        lambda pictures, side: {
            "hidden_states": torch.randn(pictures, side * side, 64),
            "encoder_hidden_states": torch.randn(pictures, 7, 32),
        },
        ((1, 8), (2, 8)),
    ),
    "resnet": Kind(
        lambda: ResnetBlock2D(in_channels=32, out_channels=32, temb_channels=64),
        lambda pictures, side: {
            "input_tensor": torch.randn(pictures, 32, side, side),
            "temb": torch.randn(pictures, 64),
        },
        ((1, 8), (2, 8)),
    ),
}
"""SDXL's widths in bf16 take minutes of most CPUs."""


@pytest.mark.parametrize("name", NARROW)
def test_a_block_is_measured_at_two_sizes_and_at_none(name, monkeypatch):
    for module in (blocks, clock):
        monkeypatch.setattr(module, "TIMES", 1)
    speed = block_speed(NARROW[name], torch.device("cpu"))
    assert speed.large.flops > 1.5 * speed.small.flops
    assert 1.4 * speed.small.flops < speed.small.backward_flops < 2.6 * speed.small.flops
    assert speed.small.forward_seconds > 0
    assert speed.launch_checkpointed_backward_seconds > 0


@pytest.mark.parametrize("kind", [TRANSFORMER, RESNET])
def test_inputs_are_as_sdxls_blocks_take_them(kind):
    with torch.device("meta"):
        block, inputs = kind.make(), kind.inputs(*kind.sizes[1])
        assert block(**inputs).shape == next(iter(inputs.values())).shape
