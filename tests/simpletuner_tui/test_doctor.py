"""``doctor`` as a real process on a machine without a GPU: its lines, JSON and exit code."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from harness.doctor import HEALTHY, device
from harness.fake_model import write_model, write_pictures
from harness.runs import CLI, cli, wait_for
from harness.terminal import Terminal
from launcher.doctor import Facts, examine
from launcher.errors import ExitCode
from launcher.machine.probing import Answer
from simpletuner_tui.commands.doctor import _lines

KEYS = {"id", "group", "title", "status", "what", "why", "mend"}
ANSWERS = {
    "training.pretrained_model_name_or_path": "./model",
    "training.instance_data_dir": "./pictures",
    "training.resolution": 64,
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 2,
    "accelerate.offload_optimizer": "cpu",
    "accelerate.mixed_precision": "bf16",
}
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def home(tmp_path_factory, extensions):
    """A folder with answers that this machine can run on its CPU."""
    folder = tmp_path_factory.mktemp("doctor")
    write_model(folder / "model")
    write_pictures(folder / "pictures")
    (folder / "answers.json").write_text(json.dumps({"schema": 1, "answers": ANSWERS}))
    return folder


@pytest.fixture(scope="module")
def told(home) -> dict:
    """What it says of this machine, for scripts; CPU Adam was built and stepped for it."""
    done = cli("doctor", "--json", cwd=home, **NO_GPU)
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stderr.splitlines()[0].startswith("looking at this machine")
    return json.loads(done.stdout)


def test_for_scripts_it_is_json_with_the_same_keys_for_every_finding(told):
    assert set(told) == {"schema", "exit_code", "platform", "trains_on", "answers", "counts", "findings"}
    assert (told["schema"], told["exit_code"], told["answers"]) == (1, 0, None)
    assert (told["platform"], told["trains_on"]) == ("cpu", "cpu")
    assert {frozenset(each) for each in told["findings"]} == {frozenset(KEYS)}
    assert all(isinstance(each["mend"], list) for each in told["findings"])
    counted = {status: sum(each["status"] == status for each in told["findings"]) for status in told["counts"]}
    assert told["counts"] == counted
    assert list(told["counts"]) == ["ok", "note", "warning", "error"]


def test_without_a_gpu_it_says_that_the_cpu_trains(told):
    found = {each["id"]: each for each in told["findings"]}
    assert (found["gpu"]["status"], found["gpu"]["why"]) == (
        "warning",
        "training goes to the CPU, where the demo takes minutes and SDXL hours a step",
    )
    assert found["deepspeed"]["status"] == found["torch"]["status"] == found["packages"]["status"] == "ok"
    assert found["cpu-adam"]["status"] == "ok"
    assert re.fullmatch(r"built and stepped (before|in \d+ s), as torch's within \de-0\d", found["cpu-adam"]["what"])


def test_a_plan_is_judged_beside_the_machine_in_80_columns(home, told):
    done = cli("doctor", "answers.json", "--set", "training.max_train_steps=3", cwd=home, **NO_GPU)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "compiled" not in done.stderr  # known from before
    lines = done.stdout.splitlines()
    assert lines[-1] == "answers.json can run here"
    plan = lines[lines.index("This plan") :]
    assert [line.split()[0] for line in plan[1 : plan.index("")]] == ["ok", "ok", "ok"]
    commands = [line for line in lines if line.split()[:1] in (["mend"], ["or"])]
    assert max(len(line) for line in lines if line not in commands) <= 80
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout


def test_a_broken_machine_is_told_part_by_part_and_a_plan_for_it_ends_with_3(home, tmp_path):
    (tmp_path / "extensions/cpu_adam").mkdir(parents=True)
    lock = tmp_path / "extensions/cpu_adam/lock"
    lock.touch()
    broken = {
        "PATH": str(tmp_path),  # no compiler; ninja lies beside Python
        "TORCH_CUDA_ARCH_LIST": "8.6;Hopper",
        "TORCH_EXTENSIONS_DIR": str(lock.parent.parent),
        "PYTHONIOENCODING": "ascii",
        **NO_GPU,
    }
    done = cli("doctor", "answers.json", "--set", "deepspeed.optimizer.type=Lion", "--json", cwd=home, **broken)
    found = {each["id"]: each for each in json.loads(done.stdout)["findings"]}
    assert done.returncode == ExitCode.CANNOT_RUN_HERE
    assert found["compiler"]["status"] == found["arch-list"]["status"] == "warning"
    assert found["build-lock-cpu_adam"]["mend"] == [f"rm -f {lock}"]
    assert found["cpu-adam"]["what"] == "not tried: g++ must be installed first"
    assert found["plan-extension"]["status"] == "error"
    assert found["plan-extension"]["mend"][1] == (
        "simpletuner-tui --replay answers.json --set deepspeed.optimizer.type=Lion --set deepspeed.optimizer.type=AdamW"
    )
    assert lock.exists()
    checked = cli("check", "answers.json", "--set", "deepspeed.optimizer.type=Lion", cwd=home, **broken)
    assert checked.returncode == ExitCode.CANNOT_RUN_HERE
    done = cli("doctor", "answers.json", cwd=home, **broken)
    assert (done.returncode, done.stdout.isascii()) == (ExitCode.OK, True)  # AdamW needs none of it
    assert done.stdout.splitlines()[-1] == "answers.json can run here"


def test_what_it_says_mends_a_stale_lock_does(home, tmp_path):
    (tmp_path / "cpu_lion").mkdir()
    (tmp_path / "cpu_lion/lock").touch()

    def locks() -> list[dict]:
        environment = {"TORCH_EXTENSIONS_DIR": str(tmp_path), "CXX": "none", **NO_GPU}
        findings = json.loads(cli("doctor", "--json", cwd=home, **environment).stdout)["findings"]
        return [each for each in findings if each["id"].startswith("build-lock")]

    (ill,) = locks()
    assert ill["status"] == "warning"
    os.system(ill["mend"][0])
    (well,) = locks()
    assert well["status"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--set", "a=b"], 2, "error: these options change a file of answers: name one, as in doctor answers.json"),
        (["none.json"], 2, "error: none.json cannot be read: No such file or directory"),
        (["answers.json", "--set", "training.resolution=x"], 2, "error: training.resolution: "),
    ],
)
def test_what_is_no_plan_is_refused_as_check_refuses_it(home, arguments, code, said):
    done = cli("doctor", *arguments, cwd=home, **NO_GPU)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_answers_that_are_at_fault_do_not_make_the_machine_ill(home):
    done = cli("doctor", "answers.json", "--set", "training.instance_data_dir=./none", cwd=home, **NO_GPU)
    assert done.returncode == ExitCode.OK
    assert done.stdout.splitlines()[-1] == "answers.json can run here, once its answers are mended"
    assert "simpletuner-tui check answers.json --set training.instance_data_dir=./none" in done.stdout


def test_only_a_terminal_gets_colours_and_ctrl_c_leaves_no_probe(home, tmp_path):
    terminal = Terminal(CLI, "doctor", cwd=home, **NO_GPU)
    try:
        terminal.read_until("CPU alone")
        assert terminal.wait() == ExitCode.OK
        assert "\x1b[32mok     \x1b[0m  packages" in terminal.seen
        assert "\x1b[33mwarning\x1b[0m  GPU" in terminal.seen
    finally:
        terminal.close()
    slow = tmp_path / "c++"
    slow.write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    slow.chmod(0o755)
    environment = {"NO_COLOR": "1", "CXX": str(slow), "TORCH_EXTENSIONS_DIR": str(tmp_path), **NO_GPU}
    terminal = Terminal(CLI, "doctor", cwd=home, **environment)
    try:
        terminal.read_until("a minute or two this once")
        wait_for(lambda: len(psutil.Process(terminal.process.pid).children()) == 2)
        probes = psutil.Process(terminal.process.pid).children()
        terminal.interrupt()
        assert terminal.wait() == ExitCode.CANCELLED
    finally:
        terminal.close()
    assert "cancelled" in terminal.seen
    assert "Traceback" not in terminal.seen
    wait_for(lambda: not any(probe.is_running() for probe in probes))


# machines that are not here


def shown(facts: Facts) -> list[str]:
    return list(_lines(facts, examine(facts), None))


def test_a_machine_with_gpus_says_so_last():
    lines = shown(HEALTHY)
    assert lines[-1] == "This machine trains on its 2 GPUs"
    assert lines[-2] == f"{sum(line.startswith('  ok') for line in lines)} ok"
    assert max(map(len, lines)) <= 80


def test_what_scrolled_away_is_named_again_at_the_end():
    old = device(devices=[], failure="The NVIDIA driver on your system is too old")
    lines = shown(replace(HEALTHY, driver_cuda="12.6", device=old, shared_mib=64))
    assert lines[-2].startswith("2 errors (driver, computing), 1 warning (/dev/shm), ")
    assert lines[-1] == "This machine could train on its 2 GPUs, once the errors are mended"


def test_where_torch_does_not_load_nothing_trains():
    assert shown(replace(HEALTHY, device=Answer(failure="ImportError: no libcudart")))[-1] == "Nothing trains here"


def test_names_from_elsewhere_cannot_command_a_terminal():
    named = replace(HEALTHY, extensions=Path("/a\x1b[2Jb"))
    assert not [line for line in shown(named) if "\x1b" in line]


def test_the_interface_asks_and_never_loads_torch(home):
    code = (
        "import sys; from simpletuner_tui.cli import main; code = main(['doctor', '--json']); "
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'deepspeed', 'diffusers')))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, check=False, env={**os.environ, **NO_GPU}
    )
    assert done.returncode == 0, done.stderr
