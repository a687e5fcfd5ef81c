"""GPUs that are not NVIDIA's are refused, from what a machine shows without torch."""

import sys

import pytest

from launcher.machine import availability
from launcher.machine.availability import torch_built_for
from launcher.machine.cuda_only import amd_is_idle, why_not_cuda


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A torch that says what it was built for, as torch/version.py does."""

    def build(**platforms: str) -> None:
        (tmp_path / "torch").mkdir()
        (tmp_path / "torch/__init__.py").touch()
        lines = [f"{name}: Optional[str] = {platforms.get(name)!r}" for name in ("cuda", "hip", "rocm", "xpu")]
        (tmp_path / "torch/version.py").write_text("from typing import Optional\n" + "\n".join(lines))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "torch", raising=False)

    return build


def test_rocm_is_refused_where_an_amd_driver_is(built, tmp_path):
    built(hip="6.4.43482", rocm="6.4.1")
    assert torch_built_for("hip") == "6.4.43482"
    assert torch_built_for("cuda") == ""
    assert why_not_cuda(tmp_path) is None  # no driver: that torch trains on the CPU
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kfd").touch()
    reason = why_not_cuda(tmp_path)
    assert reason.startswith("torch is built for AMD's ROCm (6.4.43482): DeepSpeed on GPUs is for CUDA here")
    assert "accelerate.use_cpu" in reason
    assert "torch" not in sys.modules


def test_cuda_is_not_refused_beside_an_amd_gpu(built, tmp_path):
    built(cuda="12.8")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/kfd").touch()
    assert why_not_cuda(tmp_path) is None


def test_apples_gpu_is_refused(monkeypatch, tmp_path):
    assert why_not_cuda(tmp_path) is None
    monkeypatch.setattr(availability.sys, "platform", "darwin")
    monkeypatch.setattr(availability.platform, "machine", lambda: "arm64")
    assert why_not_cuda(tmp_path).startswith("torch would train on Apple's GPU (MPS): DeepSpeed on GPUs is for CUDA")


def test_a_gpu_of_amds_is_seen_by_its_vendor(tmp_path):
    device = tmp_path / "sys/class/drm/renderD128/device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n")
    assert not amd_is_idle(tmp_path)
    (device / "vendor").write_text("0x1002\n")
    assert amd_is_idle(tmp_path)
