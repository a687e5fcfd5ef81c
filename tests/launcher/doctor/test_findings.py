"""Every finding about a machine, in which nothing is wrong and in which that one thing is."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness.doctor import HEALTHY, adam, device, h200
from launcher.doctor import Diagnosis, Facts, Status, examine, exit_code_of, found_platform, trains_on
from launcher.doctor.facts import Package
from launcher.errors import ExitCode
from launcher.machine.build_locks import BuildLock
from launcher.machine.cuda_toolkit import CudaToolkit
from launcher.machine.gpus import NO_GPU, Gpus
from launcher.machine.host import Host
from launcher.machine.probing import Answer
from launcher.machine.toolchain import Toolchain

CPU_ONLY = replace(
    HEALTHY,
    gpus=Gpus((), "no NVIDIA driver answers (Library Not Found)"),
    is_on_bus=False,
    driver_cuda="",
    torch_cuda="",
    device=device(devices=[], architectures=[]),
)
ROCM = "torch is built for AMD's ROCm (7.0): DeepSpeed on GPUs is for CUDA here"
SLOW = replace(HEALTHY.speed, gpu=replace(HEALTHY.speed.gpu, up_gb_s=3.2))
LOCK = Path("/venv/torch_extensions/cpu_adam/lock")
TOO_OLD = device(devices=[], failure="The NVIDIA driver on your system is too old (found version 12060).")
BROKEN_GPU = [{"capability": "9.0", "failure": "CUDA error: no kernel image is available"}]


def package(name: str, wanted: str, installed: str | None) -> tuple[Package, ...]:
    return (*HEALTHY.packages, Package(name, wanted, installed, False))


ILL = [
    # packages, torch, DeepSpeed
    ("package-diffusers", "error", {"packages": package("diffusers", "diffusers<0.43", None)},
     "diffusers is not installed", "pip install 'diffusers<0.43'"),
    ("package-peft", "warning", {"packages": package("peft", "peft<0.22", "0.30")},
     "peft 0.30 is outside the tested set (peft<0.22)", "pip install 'peft<0.22'"),
    ("packages", "note", {"packages": ()}, "simpletuner-tui is not installed", "pip install ."),
    ("torch", "error", {"device": Answer(failure="ImportError: libcudart.so.13: cannot open")},
     "torch does not work: ImportError: libcudart.so.13", "pip install --force-reinstall torch"),
    ("deepspeed", "error", {"deepspeed": None}, "not available: DeepSpeed is not installed",
     "pip install 'deepspeed==0.19.8'"),
    ("deepspeed", "warning", {"deepspeed": "0.19.9"},
     "DeepSpeed 0.19.9 is not tested: judged by what 0.19.8 does", "pip install 'deepspeed==0.19.8'"),
    ("deepspeed", "warning", {"why_not_cuda": ROCM, "torch_hip": "7.0", "gpus": Gpus((), "none")},
     f"0.19.8, available on the CPU alone: {ROCM}", "simpletuner-tui --replay FILE --set accelerate.use_cpu=yes"),
    # GPUs
    ("gpu", "warning", {"gpus": CPU_ONLY.gpus, "is_on_bus": False}, "none: no NVIDIA driver answers", None),
    ("gpu", "warning", {"gpus": CPU_ONLY.gpus}, "an NVIDIA GPU is on the bus, and no NVIDIA driver answers",
     "docker run --gpus all ..."),
    ("gpu", "warning", {"gpus": Gpus((), "CUDA_VISIBLE_DEVICES= hides all 2 of them", "580.95")},
     "CUDA_VISIBLE_DEVICES= hides all 2 of them", "unset CUDA_VISIBLE_DEVICES"),
    ("gpu", "warning", {"gpus": Gpus((), NO_GPU, "580.95")},
     "an NVIDIA GPU is on the bus, and the NVIDIA driver finds no GPU", "docker run --gpus all ..."),
    ("gpu", "warning", {"gpus": CPU_ONLY.gpus, "why_not_cuda": ROCM}, f"none of NVIDIA's: {ROCM}", None),
    ("gpu", "warning", {"gpus": CPU_ONLY.gpus, "amd_is_idle": True}, "the GPU of AMD's is not trained on", None),
    ("driver", "error", {"torch_cuda": "", "driver_cuda": "12.9"},
     "580.95.05 is there for an NVIDIA GPU, and torch is built without CUDA",
     "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu128"),
    ("driver", "error", {"driver_cuda": "12.6", "device": TOO_OLD}, "580.95.05 runs CUDA 12.6, torch wants 13.0",
     "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126"),
    ("driver", "error", {"driver_cuda": "11.8", "device": TOO_OLD}, "runs CUDA 11.8",
     "apt install nvidia-driver"),
    ("driver", "note", {"driver_cuda": "12.2", "torch_cuda": "12.6"}, "runs CUDA 12.2, torch wants 12.6",
     "apt install nvidia-driver"),
    ("driver", "note", {"torch_cuda": "13.2"}, "runs CUDA 13.0, torch wants 13.2",
     "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"),
    ("driver", "note", {"driver_cuda": ""}, "580.95.05 does not say which CUDA it runs", None),
    ("computes", "error", {"device": device(devices=BROKEN_GPU)}, "GPU 0: CUDA error: no kernel image is available",
     "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130"),
    ("computes", "error", {"device": device(devices=[], failure="CUDA unknown error")},
     "torch does not compute on it: CUDA unknown error", "nvidia-smi"),
    ("pinned", "warning", {"device": device(pin_failure="CUDA error: invalid argument", pinned_mib=26 * 1024)},
     "26.0 GiB of host memory cannot be pinned: CUDA error: invalid argument",
     "simpletuner-tui --replay FILE --set deepspeed.zero_optimization.offload_optimizer.pin_memory=no"),
    # compiling
    ("compiler", "warning", {"toolchain": Toolchain(None, True, "/venv/bin/ninja")}, "not found", "apt install g++"),
    ("headers", "warning", {"toolchain": Toolchain("/c++", False, "/ninja")}, "not found", "apt install python3-dev"),
    ("ninja", "warning", {"toolchain": Toolchain("/c++", True, None)}, "not found", "pip install ninja"),
    ("cuda-toolkit", "note", {"toolkit": None}, "no nvcc on PATH", "apt install cuda-toolkit-13-0"),
    ("cuda-toolkit", "note", {"toolkit": CudaToolkit(Path("/opt/cuda"), "")}, "/opt/cuda has no nvcc that answers",
     "export CUDA_HOME=/usr/local/cuda-13.0"),
    ("cuda-toolkit", "warning", {"toolkit": CudaToolkit(Path("/opt/cuda"), "12.4")},
     "12.4 in /opt/cuda, and torch is built for CUDA 13.0", "apt install cuda-toolkit-13-0"),
    ("arch-list", "warning", {"arch_list": "8.6;Hopper"}, "cannot read 'Hopper' in TORCH_CUDA_ARCH_LIST=8.6;Hopper",
     "export TORCH_CUDA_ARCH_LIST=9.0"),
    ("build-lock-cpu_adam", "warning", {"locks": (BuildLock(LOCK, None, time.time() - 3 * 3600),)},
     "a build of cpu_adam was killed 3 h ago and left its lock", f"rm -f {LOCK}"),
    ("build-lock-cpu_adam", "note", {"locks": (BuildLock(LOCK, 4711, time.time()),)},
     "process 4711 is building cpu_adam now", None),
    ("cpu-adam", "warning", {"cpu_adam": adam(failure="c++: error: unrecognized option")},
     "does not work: c++: error: unrecognized option", "rm -rf /venv/torch_extensions/cpu_adam"),
    ("cpu-adam", "error", {"cpu_adam": Answer(failure="it was ended by SIGILL", signal="SIGILL")},
     "compiled earlier is for another CPU", "rm -rf /venv/torch_extensions/cpu_adam"),
    ("cpu-adam", "warning", {"cpu_adam": Answer(failure="it did not end within 15 minutes")},
     "was not tried to its end: it did not end within 15 minutes", "rm -rf /venv/torch_extensions/cpu_adam"),
    ("cpu-adam", "note", {"cpu_adam": Answer({"untried": "g++ must be installed first"})},
     "not tried: g++ must be installed first", None),
    ("libaio", "note", {"missing_for_nvme": ("libaio-dev",)}, "not found", "apt install libaio-dev"),
    # host memory
    ("cgroup", "note", {"machine_mib": 1024 * 1024}, "256.0 GiB of the machine's 1024.0 GiB",
     "docker run --memory=SIZE ..."),
    ("memlock", "note", {"lockable_mib": 8}, "a process may lock 8 MiB", "ulimit -l unlimited"),
    ("shm", "warning", {"shared_mib": 64}, "64 MiB for 2 GPUs", "docker run --shm-size=1g ..."),
    ("shm", "warning", {"shared_mib": None}, "there is none", "docker run --shm-size=1g ..."),
    # speed
    ("speed", "note", {"speed": None}, "not measured yet", "simpletuner-tui measure --threads 32"),
    ("speed-gpu", "note", {"speed": SLOW}, "slow: 3.2 GB/s up",
     "nvidia-smi --query-gpu=pcie.link.gen.current,pcie.link.width.current --format=csv"),
    # launching
    ("ports", "error", {"has_ports": False}, "can listen at no port", "ip link set lo up"),
    ("folders", "warning", {"unwritable": {Path("/venv/torch_extensions"): "/venv cannot be written by this user"}},
     "/venv cannot be written by this user", "export TORCH_EXTENSIONS_DIR=DIR"),
    ("folders", "warning", {"unwritable": {Path("/home/a/.cache"): "/home/a is a file"}}, "/home/a is a file",
     "export XDG_CACHE_HOME=DIR"),
]  # fmt: skip


def by_id(facts: Facts) -> dict[str, Diagnosis]:
    found = examine(facts)
    assert len({each.id for each in found}) == len(found)
    return {each.id: each for each in found}


@pytest.mark.parametrize(
    ("name", "status", "change", "what", "mend"), ILL, ids=[f"{each[0]}: {each[3][:30]}" for each in ILL]
)
def test_what_is_ill_is_told_with_why_it_matters_and_what_mends_it(name, status, change, what, mend, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("launcher.machine.measuring.read_host", lambda: Host(1, 1, 8))
    found = by_id(replace(HEALTHY, **change))[name]
    assert (found.status, what in found.what) == (status, True), found
    assert found.why or status == "note"
    assert mend in found.mend if mend else found.mend == ()
    assert "\n" not in "".join([found.what, found.why, *found.mend])
    stopped = status == "error"
    assert exit_code_of([found]) is (ExitCode.CANNOT_RUN_HERE if stopped else ExitCode.OK)


def test_a_machine_in_which_nothing_is_wrong_is_told_so_line_by_line():
    found = examine(HEALTHY)
    assert {each.status for each in found} == {Status.OK}
    assert not [each for each in found if each.why or each.mend]
    told = {each.id: each.what for each in found}
    assert told["gpu-0"] == told["gpu-1"] == "NVIDIA H200, 140.4 GiB, 139.8 GiB free"
    assert told["driver"] == "580.95.05 runs CUDA 13.0, torch wants 13.0"
    assert told["deepspeed"] == "0.19.8, available on GPUs and the CPU"
    assert told["cpu-adam"] == "built and stepped in 61 s, as torch's within 7e-07"
    assert told["ram"] == "256.0 GiB, 250.0 GiB available, 32 cores"
    ill = {name.partition("-")[0] if name.startswith("build") else name for name, *_ in ILL}
    answered = {name.partition("-")[0] if name.startswith("build") else name for name in told}
    # What is told only where it is ill, or not at all where it is well.
    assert ill - answered == {"package-diffusers", "package-peft", "gpu", "arch-list", "speed"}


def test_an_arch_list_that_deepspeed_reads_is_shown():
    assert by_id(replace(HEALTHY, arch_list="8.6;9.0+PTX"))["arch-list"].status is Status.OK


def test_an_old_driver_whose_gpu_computes_all_the_same_is_well():
    """CUDA's compatibility libraries let a data centre's driver run a newer CUDA than it says."""
    told = by_id(replace(HEALTHY, driver_cuda="12.6"))["driver"]
    assert (told.status, told.what.endswith("wants 13.0, through CUDA's compatibility libraries")) == (Status.OK, True)


def test_what_was_tried_before_says_so():
    assert "stepped before" in by_id(replace(HEALTHY, cpu_adam=adam(remembered=True)))["cpu-adam"].what


def test_one_process_needs_no_shared_memory():
    one = replace(HEALTHY, gpus=Gpus((h200(0),)), shared_mib=64)
    assert by_id(one)["shm"].status is Status.OK


@pytest.mark.parametrize(
    ("change", "platform", "device"),
    [
        ({}, "cuda", "cuda"),
        ({"torch_cuda": ""}, "cuda", "cpu"),
        ({"gpus": CPU_ONLY.gpus}, "cpu", "cpu"),
        ({"gpus": CPU_ONLY.gpus, "why_not_cuda": ROCM, "torch_hip": "7.0"}, "rocm", "cpu"),
        ({"gpus": CPU_ONLY.gpus, "why_not_cuda": "Apple's GPU (MPS)"}, "mps", "cpu"),
        ({"device": Answer(failure="broken")}, "cuda", None),
        ({"deepspeed": None}, "cuda", None),
        ({"has_ports": False}, "cuda", None),
    ],
)
def test_which_platform_it_is_and_what_trains_on_it(change, platform, device):
    facts = replace(HEALTHY, **change)
    assert (found_platform(facts), trains_on(facts, examine(facts))) == (platform, device)


def test_without_a_gpu_nothing_of_gpus_is_asked_and_it_ends_with_0():
    found = by_id(CPU_ONLY)
    assert not {"driver", "computes", "pinned", "cuda-toolkit"} & set(found)
    assert exit_code_of(found.values()) is ExitCode.OK
    assert found["deepspeed"].what == "0.19.8, available on the CPU: its backend without CUDA"
