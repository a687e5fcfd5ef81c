"""The optimizer's extension: built where it can be, done without where that suffices, refused in words elsewhere."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.runs import wait_for
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.train.cpu_info import read_cpu_info
from launcher.train.extensions import TORCH_ADAM, build_optimizer

BUILD = """
import json, sys
from harness.recorder import Recorder
from launcher.errors import LauncherError
from launcher.train.distributed import World
from launcher.train.extensions import build_optimizer
import torch
world = World(rank=0, world_size=1, device=torch.device("cpu"))
for name, config in json.load(sys.stdin).items():
    report = Recorder()
    try:
        told = {"params": build_optimizer(config, world, report)["optimizer"]["params"]}
    except LauncherError as error:
        told = {"error": str(error), "exit_code": int(error.exit_code)}
    print("told", json.dumps({"name": name, "warnings": report.warnings, **told}), flush=True)
"""


def config_of(optimizer: str, offload: str = "cpu") -> dict:
    return to_deepspeed_json(
        DeepSpeedSettings(optimizer_type=optimizer, offload_optimizer_device=offload),
        train_batch_size=1,
        learning_rate=1e-3,
        warmup_steps=1,
        total_steps=1,
    )


def environment_of(folder: Path, **compiler: str) -> dict[str, str]:
    """Of a machine where nothing was compiled before and, unless one is given, there is no compiler."""
    environment = {key: value for key, value in os.environ.items() if key not in ("CXX", "CC")}
    return environment | {
        "PATH": str(Path(sys.executable).parent),  # ninja alone
        "TORCH_EXTENSIONS_DIR": str(folder),
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        **compiler,
    }


def build(configs: dict[str, dict], folder: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BUILD],
        input=json.dumps(configs),
        env=environment_of(folder),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_what_deepspeed_reads_of_the_cpu_is_what_cpuinfo_finds():
    command = [sys.executable, "-m", "cpuinfo", "--json"]
    theirs = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def read(info: dict) -> list:
        return [info["arch"], info.get("vendor_id_raw"), {"avx2", "avx512", "avx512f", "sve"} & {*info["flags"]}]

    assert read(read_cpu_info()) == read(theirs)


SWAP = """
import json, sys
from pathlib import Path
from launcher.errors import LauncherError
from launcher.train.distributed import World
from launcher.train.extensions import build_swapping
import torch
world = World(rank=0, world_size=1, device=torch.device("cpu"))
for config in json.load(sys.stdin):
    try:
        told = {"zero": build_swapping(config, Path("run"), world)["zero_optimization"]}
    except LauncherError as error:
        told = {"error": str(error), "exit_code": int(error.exit_code)}
    print("told", json.dumps(told), flush=True)
"""


def test_without_a_compiler_nvme_offload_is_refused_with_what_to_install(tmp_path):
    swapping, plain = (
        to_deepspeed_json(
            DeepSpeedSettings(stage=3, offload_optimizer_device=device, offload_optimizer_nvme_path="/fast"),
            train_batch_size=1,
            learning_rate=1e-3,
            warmup_steps=1,
            total_steps=1,
        )
        for device in ("nvme", "cpu")
    )
    done = subprocess.run(
        [sys.executable, "-c", SWAP],
        input=json.dumps([swapping, plain]),
        env=environment_of(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    refused, left = (json.loads(line.removeprefix("told ")) for line in done.stdout.splitlines() if "told" in line)
    assert refused["exit_code"] == 3
    assert refused["error"].startswith(
        "NVMe offload needs DeepSpeed's async_io extension, which does not compile here ("
    )
    assert "apt install g++ python3-dev libaio-dev), or offload to cpu" in refused["error"]
    assert left["zero"] == plain["zero_optimization"]


@pytest.fixture(scope="module")
def without_compiler(tmp_path_factory) -> dict[str, dict]:
    """What becomes of each optimizer where there is no compiler and nothing was compiled before."""
    configs = {name: config_of(name) for name in ("AdamW", "Adam", "Muon", "Lion", "Adagrad")}
    done = build(configs, tmp_path_factory.mktemp("extensions"))
    told = [json.loads(line.removeprefix("told ")) for line in done.stdout.splitlines() if line.startswith("told ")]
    assert done.returncode == 0, done.stderr[-3000:]
    return {one["name"]: one for one in told}


@pytest.mark.parametrize("optimizer", ["AdamW", "Adam", "Muon"])
def test_without_a_compiler_adam_is_torchs_own_and_says_so(without_compiler, optimizer):
    told = without_compiler[optimizer]
    assert told["params"]["torch_adam"] is True
    assert told["params"]["fused"] is True
    (warning,) = told["warnings"]
    assert "torch's fused AdamW does the same update" in warning
    assert "apt install g++ python3-dev" in warning
    assert "\n" not in warning


@pytest.mark.parametrize(("optimizer", "extension"), [("Lion", "CPULionBuilder"), ("Adagrad", "CPUAdagradBuilder")])
def test_without_a_compiler_the_others_are_refused_naming_the_package(without_compiler, optimizer, extension):
    told = without_compiler[optimizer]
    assert told["exit_code"] == 3
    assert f"{optimizer} with offload needs DeepSpeed's {extension} extension" in told["error"]
    assert "apt install g++" in told["error"]
    assert "\n" not in told["error"]


def test_with_a_compiler_the_configuration_stays_as_it_is(alone, report):
    config = config_of("AdamW")
    assert build_optimizer(config, alone, report) == config
    assert report.events == []


def test_what_torchs_adam_began_it_continues(alone, report):
    params = build_optimizer(config_of("AdamW"), alone, report, torch_adam=True)["optimizer"]["params"]
    assert {f"optimizer.params.{name}": params[name] for name in ("torch_adam", "fused")} == TORCH_ADAM
    assert report.events == []


def test_a_build_that_was_killed_is_not_waited_for(tmp_path):
    endless = tmp_path / "c++"
    endless.write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    endless.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", BUILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment_of(tmp_path, CXX=str(endless)),
        text=True,
        start_new_session=True,
    ) as first:
        first.stdin.write(json.dumps({"AdamW": config_of("AdamW")}))
        first.stdin.close()
        wait_for((tmp_path / "cpu_adam/lock").exists, 60)
        os.killpg(first.pid, signal.SIGKILL)
    assert (tmp_path / "cpu_adam/lock").exists()
    done = build({"AdamW": config_of("AdamW")}, tmp_path)
    assert "torch's fused AdamW does the same update" in done.stdout
    assert "was left by a build that was killed" in done.stderr


def test_a_build_that_goes_on_elsewhere_is_waited_for(tmp_path):
    baton = tmp_path / "cpu_adam/lock"
    baton.parent.mkdir()
    with baton.open("w"), pytest.raises(subprocess.TimeoutExpired):
        build({"AdamW": config_of("AdamW")}, tmp_path, timeout=10)
    assert baton.exists()
