"""``sbatch``: the script is one for bash, and what it runs on each machine is the run that was asked for."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from harness.runs import cli
from launcher.errors import ExitCode
from simpletuner_tui.cli import main

SRUN = """#!/bin/bash
[ "$1" = --kill-on-bad-exit=1 ] || exit 9
shift
for machine in $(seq 0 $((SLURM_NNODES - 1))); do
    SLURM_NODEID=$machine "$@" || exit $?
done
"""
"""One machine after another, as far as a script can tell."""
SCONTROL = """#!/bin/bash
[ "$*" = "show hostnames nodes[4-5]" ] && printf 'node4\\nnode5\\n'
"""
SIMPLETUNER = """#!/usr/bin/env python3
import json, os, sys
with open("told.jsonl", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
sys.exit(int(os.environ.get("CODE", "0")))
"""
SEVERAL = {"accelerate.machine": "MULTI_GPU", "accelerate.num_machines": 2, "accelerate.num_processes": 4}


@pytest.fixture
def cluster(home, tmp_path, monkeypatch):
    """The programs of Slurm, and ours, which tells what it is asked to do."""
    for name, content in (("srun", SRUN), ("scontrol", SCONTROL), ("simpletuner-tui", SIMPLETUNER)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        path.chmod(0o755)
    monkeypatch.chdir(home)

    def run(script: str, machines: int, **more: str) -> tuple[int, list[list[str]]]:
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "SLURM_NNODES": str(machines),
            "SLURM_JOB_NODELIST": "nodes[4-5]",
            "SLURM_JOB_ID": "4000123",
            **more,
        }
        subprocess.run(["bash", "-n", script], check=True)
        done = subprocess.run(["bash", Path(script).absolute()], cwd=tmp_path, env=environment, check=False, timeout=60)
        told = Path("told.jsonl")
        return done.returncode, [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []

    return run


def answers(home, **more) -> None:
    content = json.loads((home / "answers.json").read_text())
    del content["answers"]["accelerate.use_cpu"]
    content["answers"] |= more
    (home / "answers.json").write_text(json.dumps(content))


def options(script: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(.*)$", Path(script).read_text(), re.MULTILINE))


def test_every_machine_starts_the_run_with_its_own_number(home, cluster, capsys):
    answers(home, **SEVERAL)
    assert main(["sbatch", "answers.json", "--run-dir", "runs/my cats", "--set", "training.seed=7"]) == 0
    assert options("run.sbatch") | {"mem": "", "cpus-per-task": ""} == {
        "job-name": "'my cats'",
        "nodes": "2",
        "ntasks-per-node": "1",
        "gpus-per-node": "2",
        "cpus-per-task": "",
        "mem": "",
        "output": "'my cats-%j.log'",
        "signal": "B:USR1@600",
    }
    code, told = cluster("run.sbatch", machines=2)
    assert code == 0
    assert len(told) == 2
    for machine, arguments in enumerate(told):
        capsys.readouterr()
        assert main([*arguments, "--dry-run", "--json"]) in (ExitCode.OK, ExitCode.CANNOT_RUN_HERE)
        plan = json.loads(capsys.readouterr().out)
        assert plan["run_dir"] == str(home / "runs/my cats")
        launched = yaml.safe_load(plan["files"]["accelerate.yaml"])
        assert launched["machine_rank"] == machine
        assert (launched["num_machines"], launched["num_processes"]) == (2, 4)
        assert (launched["main_process_ip"], launched["main_process_port"]) == ("node4", 20123)
        assert launched["deepspeed_config"]["deepspeed_multinode_launcher"] == "standard"
        assert json.loads(plan["files"]["training.json"])["seed"] == 7
        assert plan["argv"][-3:] == ["-m", "launcher.train", str(home / "runs/my cats")]


def test_on_one_machine_nothing_of_several_is_said(home, cluster):
    answers(home)
    assert main(["sbatch", "answers.json", "--run-dir", "run", "-o", "one.sbatch"]) == 0
    assert options("one.sbatch")["nodes"] == "1"
    assert cluster("one.sbatch", machines=1) == (
        0,
        [["--replay", str(home / "answers.json"), "--run-dir", str(home / "run")]],
    )


def test_the_job_ends_with_the_runs_exit_code(home, cluster):
    answers(home)
    assert main(["sbatch", "answers.json", "--run-dir", "run"]) == 0
    assert cluster("run.sbatch", machines=1, CODE="3")[0] == 3


def test_faults_are_told_and_nothing_is_overwritten(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    answers(home, **{**SEVERAL, "accelerate.num_processes": 3})
    assert main(["sbatch", "answers.json"]) == ExitCode.USAGE
    assert "accelerate.num_processes: must be a multiple of the 2 machines" in capsys.readouterr().err
    assert not Path("run.sbatch").exists()
    assert main(["sbatch", "-"]) == ExitCode.USAGE
    Path("run.sbatch").write_text("mine")
    again = ["sbatch", "answers.json", "--set", "accelerate.num_processes=2"]
    assert main(again) == ExitCode.REFUSED_TO_OVERWRITE
    assert Path("run.sbatch").read_text() == "mine"
    assert main([*again, "--force"]) == 0
    assert Path("run.sbatch.bak").read_text() == "mine"
    assert cli("sbatch", "answers.json", "--json", cwd=home).returncode == ExitCode.USAGE
