"""The doctor on a machine with GPUs: what he says beside what nvidia-smi says."""

import json
import subprocess

import pytest

from harness.runs import cli
from launcher.machine.gpus import read_nvml

NVML = read_nvml()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not NVML.gpus, reason=NVML.reason or "no GPU")]


@pytest.fixture(scope="module")
def told(extensions) -> dict:
    done = cli("doctor", "--json", timeout=400)
    print(done.stdout)
    return {**json.loads(done.stdout), "code": done.returncode}


def test_every_gpu_is_there_and_computes(told):
    asked = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {each["id"]: each for each in told["findings"]}
    for index, line in enumerate(said):
        name, driver = line.split(", ")
        assert found[f"gpu-{index}"]["what"].startswith(f"{name}, ")
        assert found["driver"]["what"].startswith(f"{driver} runs CUDA ")
    assert {found[name]["status"] for name in ("driver", "computes", "pinned", "cpu-adam")} == {"ok"}
    assert (told["platform"], told["trains_on"], told["code"], told["exit_code"]) == ("cuda", "cuda", 0, 0)


def test_hidden_gpus_leave_the_cpu(extensions):
    done = cli("doctor", "--json", CUDA_VISIBLE_DEVICES="", timeout=400)
    hidden = json.loads(done.stdout)
    (gpu,) = (each for each in hidden["findings"] if each["group"] == "GPU")
    assert (gpu["status"], gpu["mend"]) == ("warning", ["unset CUDA_VISIBLE_DEVICES"])
    assert (hidden["trains_on"], done.returncode) == ("cpu", 0)


def test_an_arch_list_that_deepspeed_cannot_read_is_set_right_for_this_gpu(extensions):
    done = cli("doctor", "--json", TORCH_CUDA_ARCH_LIST="Hopper", timeout=400)
    (found,) = (each for each in json.loads(done.stdout)["findings"] if each["id"] == "arch-list")
    assert found["mend"][0] == "unset TORCH_CUDA_ARCH_LIST"
    assert found["mend"][1].startswith("export TORCH_CUDA_ARCH_LIST=")
