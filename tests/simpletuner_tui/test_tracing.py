"""The trace of a model that none is shipped for: made once, by whoever asks first, in a process of its own."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from harness.runs import CLI, cli
from launcher.errors import ExitCode
from launcher.estimate import traces
from launcher.estimate.traces import UNetStep, find, is_to_come, make, trace_file, why_none
from simpletuner_tui.answers import read_answers, read_resolved
from simpletuner_tui.preview import cost, traced_step
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.resolving import resolve
from simpletuner_tui.session import probe_machine

ANSWERS = {
    "training.pretrained_model_name_or_path": "./model",
    "training.instance_data_dir": "./pictures",
    "training.resolution": 256,
    "training.train_batch_size": 8,
    "training.learning_rate": 1e-4,
    "training.model_type": "lora",
    "training.lora_dropout": 0.1,
    "accelerate.use_cpu": False,
    "accelerate.mixed_precision": "bf16",
}
TRACED = "a step of this U-Net is traced, to know what it takes of a GPU; this once, some seconds\n"
BY_FORMULA = "GPU memory is a formula's, without activations"


def settings_of(home: Path, **changed: object):
    content = json.dumps({"schema": 1, "answers": {**ANSWERS, **changed}}).encode()
    answers = read_answers(content, home, "answers")
    return read_resolved(resolve(REGISTRY, answers.values, probe_machine()), home).settings


@dataclass
class Asked:
    """Two commands that priced a LoRA of the tiny SDXL at once, beside the damaged file of an earlier trace."""

    home: Path
    step: UNetStep
    before: tuple[str, ...]
    """Notes of the estimate before."""
    done: list[subprocess.CompletedProcess]
    pids: set[int]
    """Of processes that traced."""


@pytest.fixture(scope="module")
def asked(assets, tmp_path_factory):
    home = tmp_path_factory.mktemp("traced")
    for name in ("model", "pictures"):
        (home / name).symlink_to(assets / name)
    (home / "answers.json").write_text(json.dumps({"schema": 1, "answers": ANSWERS}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        settings = settings_of(home)
        step = traced_step(settings)
        trace_file(step).parent.mkdir(parents=True)
        trace_file(step).write_bytes(traces.shipped("all").to_bytes()[:-1000])
        before = cost(settings).notes
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        both = [
            subprocess.Popen([CLI, *command, "answers.json", "--json"], cwd=home, **pipes)
            for command in (["estimate"], ["check"])
        ]
        pids = set()
        while any(process.poll() is None for process in both):
            pids |= {pid for process in both for pid in _tracing(process.pid)}
            time.sleep(0.1)
        done = [
            subprocess.CompletedProcess(process.args, process.returncode, *process.communicate()) for process in both
        ]
        yield Asked(home, step, before, done, pids)


def _tracing(pid: int) -> set[int]:
    try:
        children = psutil.Process(pid).children()
        return {child.pid for child in children if "launcher.probes.trace" in child.cmdline()}
    except psutil.Error:
        return set()


def test_a_command_waits_for_the_trace_and_says_so(asked):
    estimated, checked = asked.done
    assert asked.before == (
        f"{BY_FORMULA}, until a step of this U-Net is traced",
        "LoRA of rank 16: 0.2 M of 2.0 M parameters are trained",
    )
    for done in asked.done:
        assert done.stderr.count(TRACED) == 1
    content = json.loads(estimated.stdout)
    assert content["notes"] == [asked.before[1]]
    (step,) = (phase for phase in content["gpu"] if phase["name"] == "step")
    assert {"activations", "weights"} <= {part["name"] for part in step["parts"]}
    assert json.loads(checked.stdout)["findings"]


def test_one_process_makes_it_whoever_asks(asked):
    assert len(asked.pids) == 1


def test_it_is_found_again(asked):
    file = trace_file(asked.step)
    seen, made = find(asked.step), file.stat()
    assert seen is find(asked.step)
    assert list(make(asked.step)) == []
    again = cli("estimate", "answers.json", "--json", cwd=asked.home)
    assert again.stderr == ""
    assert again.stdout == asked.done[0].stdout
    assert file.stat() == made
    assert {path.suffix for path in file.parent.iterdir()} == {".gz", ".lock", ".log"}


@pytest.mark.parametrize(
    "changed",
    [
        {"training.model_type": "full"},
        {"training.lora_rank": 8},
        {"training.lora_target_modules": "to_q"},
        {"training.lora_dropout": 0},
        {"training.gradient_checkpointing": False},
        {"accelerate.mixed_precision": "no"},
        {"training.pretrained_model_name_or_path": "owner/sdxl"},
    ],
    ids=str,
)
def test_it_holds_for_nothing_else(asked, changed):
    assert trace_file(traced_step(settings_of(asked.home, **changed))) != trace_file(asked.step)


def test_it_holds_for_whatever_it_does_not_follow_from(asked):
    changed = {
        "training.train_batch_size": 3,
        "training.resolution": 128,
        "training.lora_alpha": 2.0,
        "training.lora_dropout": 0.2,
        "accelerate.mixed_precision": "fp16",
    }
    assert traced_step(settings_of(asked.home, **changed)) == asked.step


def test_another_version_of_a_package_is_traced_anew(asked, monkeypatch):
    monkeypatch.setattr(traces, "_versions", lambda: ("0.1.0", "3.0.0", "1.0.0", "1.0.0"))
    assert find(asked.step) is None


def test_what_cannot_be_traced_stays_a_formulas_and_says_why(asked, monkeypatch):
    settings = settings_of(asked.home, **{"training.lora_rank": 5})
    step = traced_step(settings)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    for _ in make(step):
        time.sleep(0.01)
    assert find(step) is None
    assert not is_to_come(step)
    assert why_none(step).startswith("see ")
    assert cost(settings).notes[0] == f"{BY_FORMULA}: a step of this U-Net cannot be traced ({why_none(step)})"


def test_where_nothing_can_be_kept_nothing_is_traced(asked, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    step = replace(asked.step, lora_rank=6)
    assert list(make(step)) == [None]
    assert "Not a directory" in why_none(step)


def test_a_run_on_the_cpu_waits_for_no_trace(asked):
    sets = ("--set", "accelerate.use_cpu=yes", "--set", "training.lora_rank=7")
    done = cli("estimate", "answers.json", *sets, cwd=asked.home)
    assert done.returncode == ExitCode.OK
    assert f"Note: {BY_FORMULA}: for the CPU it is not traced.\n" in done.stdout
