"""The training process refuses GPUs that are not NVIDIA's before it reads anything, and trains on the CPU."""

import sys

import pytest
import torch
from deepspeed.accelerator import get_accelerator

from launcher.runs.directory import RunDirectory
from launcher.runs.outcome import read_outcome
from launcher.train import __main__ as process
from launcher.train.platform import require_cuda_or_cpu


@pytest.mark.parametrize(
    ("device", "hip", "words"),
    [
        ("cuda", "6.4.43482", "torch is built for AMD's ROCm (6.4.43482): DeepSpeed on GPUs is for CUDA here"),
        ("mps", None, "torch would train on Apple's GPU (MPS): DeepSpeed on GPUs is for CUDA here"),
        ("xpu", None, "torch would train on an accelerator of another kind (xpu)"),
    ],
)
def test_what_is_no_nvidia_gpu_ends_with_3_and_says_why(device, hip, words, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", hip)
    monkeypatch.setattr(get_accelerator(), "device_name", lambda *_: device)
    monkeypatch.setattr(sys, "argv", ["launcher.train", str(tmp_path)])
    assert process.main() == 3
    outcome = read_outcome(RunDirectory(tmp_path))
    assert (outcome.result, outcome.exit_code) == ("failed", 3)
    assert outcome.message.startswith(words)
    assert not (tmp_path / "events.jsonl").exists()  # not one phase was begun


def test_the_cpu_is_not_refused_even_where_torch_is_amds(monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4.43482")
    assert get_accelerator().device_name() == "cpu"
    require_cuda_or_cpu()
