"""nvcc where torch looks for it, and what ends a build for GPUs before a compiler is asked."""

from pathlib import Path

import pytest

from launcher.machine.cuda_toolkit import CudaToolkit, find_cuda_toolkit, why_not_compiled_for_gpus

SAYS = 'echo "nvcc: NVIDIA (R) Cuda compiler driver"; echo "Cuda compilation tools, release 12.8, V12.8.93"'


def toolkit(folder: Path, script: str = SAYS) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/nvcc").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "bin/nvcc").chmod(0o755)
    return folder


def test_it_is_looked_for_as_torch_does(tmp_path):
    usual, named, on_path = (toolkit(tmp_path / name) for name in ("usual", "named", "on path"))
    path = {"PATH": f"/nowhere:{on_path / 'bin'}"}
    assert find_cuda_toolkit({"CUDA_HOME": str(named), **path}, usual) == CudaToolkit(named, "12.8")
    assert find_cuda_toolkit({"CUDA_PATH": str(named), **path}, usual) == CudaToolkit(named, "12.8")
    assert find_cuda_toolkit(path, usual) == CudaToolkit(on_path, "12.8")
    assert find_cuda_toolkit({"PATH": "/nowhere"}, usual) == CudaToolkit(usual, "12.8")
    assert find_cuda_toolkit({"PATH": "/nowhere"}, tmp_path / "none") is None


@pytest.mark.parametrize("script", ["exit 1", "echo nothing"])
def test_one_that_does_not_answer_has_no_release(tmp_path, script):
    folder = toolkit(tmp_path / "cuda", script)
    assert find_cuda_toolkit({"CUDA_HOME": str(folder)}) == CudaToolkit(folder, "")
    assert find_cuda_toolkit({"CUDA_HOME": str(tmp_path)}) == CudaToolkit(tmp_path, "")


FOUND = CudaToolkit(Path("/usr/local/cuda"), "13.0")


@pytest.mark.parametrize(
    ("found", "arch_list", "torch_cuda", "why"),
    [
        (FOUND, "", "13.0", None),
        (FOUND, "9.0", "13.0", None),
        (None, "Hopper", "", None),
        (None, "", "13.0", "CUDA's compiler (nvcc) is not found: neither CUDA_HOME, PATH nor /usr/local/cuda has one"),
        (CudaToolkit(Path("/cuda"), ""), "", "13.0", "CUDA's compiler (nvcc) is not found: /cuda has none"),
        (FOUND, "8.0;Hopper", "13.0", "DeepSpeed cannot read `Hopper` in TORCH_CUDA_ARCH_LIST"),
    ],
)
def test_what_is_in_the_way_is_named(found, arch_list, torch_cuda, why):
    assert why_not_compiled_for_gpus(found, arch_list, torch_cuda) == why


def test_torch_for_cpus_compiles_for_cpus(monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "Hopper")
    monkeypatch.setattr("launcher.machine.cuda_toolkit.torch_built_for", lambda platform: "13.0")
    assert why_not_compiled_for_gpus(FOUND) == "DeepSpeed cannot read `Hopper` in TORCH_CUDA_ARCH_LIST"
    monkeypatch.setattr("launcher.machine.cuda_toolkit.torch_built_for", lambda platform: "")
    assert why_not_compiled_for_gpus(FOUND) is None
