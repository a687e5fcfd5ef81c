"""Two processes through the command line of a real run directory: they fail, continue, finish and export.

One run directory is launched twice: the first time a picture's cache is damaged while it trains, and only the
second process reads it; the second time it comes to its end.
"""

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.distributed import run as elastic

from harness.data import scan
from harness.runs import end_run, events, wait_for, wait_until_over
from launcher.config.accelerate import LaunchSettings, Machines
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.settings import Settings
from launcher.config.training import (
    CheckpointSettings,
    DataSettings,
    EmaSettings,
    ExportSettings,
    ModelSettings,
    OptimizationSettings,
    RuntimeSettings,
    TrackingSettings,
    TrainingSettings,
    ValidationSettings,
)
from launcher.plan import make_plan
from launcher.runs.checkpoint_request import request_checkpoint
from launcher.runs.directory import create
from launcher.runs.marker import MARKER
from launcher.runs.processes import processes_of_run
from launcher.runs.spawn import launch
from launcher.runs.state import status
from launcher.train import caches
from launcher.train.batches import Division
from launcher.train.deepspeed_engine import TAG
from launcher.train.order import Order
from launcher.train.report import Report

SEED, STEPS, SAVE_EVERY, LOST_AT = 3, 10, 3, 5
"""The picture whose cache is damaged is drawn after the first checkpoint."""
PICTURES = 24
"""Of the demo."""
SECRET = "hf_" + "aSecretOfTheShell" * 2


def new_run(folder, assets, steps=STEPS, machines=None):
    """On several machines nothing but its steps, which are to be those of two processes on one."""
    alone = machines is None
    training = TrainingSettings(
        model=ModelSettings(pretrained_model_name_or_path=str(assets / "model")),
        data=DataSettings(instance_data_dir=str(assets / "pictures"), resolution=32),
        optimization=OptimizationSettings(
            max_train_steps=steps,
            train_batch_size=2,
            learning_rate=1e-3,
            lr_warmup_steps=4,
            seed=SEED,
            num_eval_images=4 if alone else 0,
        ),
        ema=EmaSettings(use_ema=alone),
        checkpoints=CheckpointSettings(checkpointing_steps=SAVE_EVERY),
        export=ExportSettings(export_pipeline=alone),
        validation=ValidationSettings(
            validation_steps=4, num_validation_images=1 if alone else 0, validation_num_inference_steps=2
        ),
        tracking=TrackingSettings(report_to="tensorboard"),
        runtime=RuntimeSettings(cpu_threads=1),
    )
    deepspeed = DeepSpeedSettings(stage=2, reduce_bucket_size=200_000, allgather_bucket_size=200_000)
    settings = Settings(LaunchSettings(num_processes=2, use_cpu=True, machines=machines), deepspeed, training)
    plan = make_plan(settings, b"{}\n", folder / "run")
    return create(plan.home, plan.files)


def damage_a_picture(run, model, alone):
    """As a failing disk would, changes the cached latents of a picture that only the second process draws."""
    training = run.training()
    pictures = scan(Path(training.data.instance_data_dir), training.data.resolution)
    dataset = caches.prepare(training, model, pictures, torch.bfloat16, alone, Report())
    division = Division(rank=1, world_size=2, micro_batch_size=2, accumulation=1)
    first = division.numbers(LOST_AT - 1, 0)[0]
    name, places = dataset.latents.index[
        dataset.entries[Order(pictures, SEED, division.global_batch_size)[first]].latents
    ]
    path = dataset.latents.folder / name
    status, content = path.stat(), bytearray(path.read_bytes())
    content[places["mean"].start] ^= 0x10
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return path


def kill_the_second_process(run) -> None:
    (process,) = (process for process in processes_of_run(str(run.path)) if process.environ().get("RANK") == "1")
    process.kill()


class Launches:
    """Launches one run directory again and again and keeps what each told."""

    def __init__(self, run) -> None:
        self.run = run
        self.told, self.ended = [], []

    def launch(self, meanwhile=None, *, after=lambda told: True):
        """Launches, does something once it told what ``after`` waits for, and waits for the end."""
        before = len(events(self.run))
        launch(self.run)
        result = None
        if meanwhile:
            wait_for(lambda: after(events(self.run)[before:]), 90)
            result = meanwhile()
        self.ended.append(wait_until_over(self.run, 120))
        self.told.append(events(self.run)[before:])
        return result


def named(told, name) -> list[dict]:
    return [event for event in told if event["event"] == name]


def steps(told) -> dict[int, tuple]:
    """What each step told that may not depend on when it ran."""
    return {event["step"]: (event["loss"], event["lr"], event["grad_norm"]) for event in named(told, "step")}


@pytest.fixture(scope="module")
def launches(assets, model, alone, tmp_path_factory):
    run = new_run(tmp_path_factory.mktemp("two-ranks"), assets)
    some = Launches(run)
    some.home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "WANDB_API_KEY"):
            patch.setenv(name, SECRET)
        patch.setenv("HOME", str(some.home))
        try:
            some.lost = some.launch(lambda: damage_a_picture(run, model, alone), after=lambda told: named(told, "data"))
            some.launch()
        finally:
            end_run(run)
    return some


def all_but_zeros(tensors) -> torch.Tensor:
    """Their values by size, whatever the order in which they are kept."""
    values = torch.cat([tensor.detach().flatten() for tensor in tensors])
    return values[values != 0].sort().values


def log(launches) -> str:
    return launches.run.log.read_text()[-4000:]


def test_the_process_that_fails_says_why(launches):
    first = launches.ended[0].state
    assert (first["result"], first["exit_code"]) == ("failed", 1), log(launches)
    assert str(launches.lost) in first["message"]
    assert "start the run again" in first["message"]
    assert max(steps(launches.told[0])) == LOST_AT - 1
    assert launches.told[0][-1]["message"] == first["message"]


@pytest.mark.exhaustive
def test_a_process_that_the_kernel_kills_ends_the_run_with_the_likely_reason(assets, tmp_path):
    run = new_run(tmp_path, assets, steps=1000)
    killed = Launches(run)
    try:
        killed.launch(lambda: kill_the_second_process(run), after=lambda told: 1 in steps(told))
    finally:
        end_run(run)
    state = killed.ended[0].state
    assert (state["result"], state["exit_code"]) == ("failed", 1), log(killed)
    assert "killed (signal 9), most likely by the kernel because host RAM ran out" in state["message"]


def test_the_second_launch_continues_from_the_checkpoint_and_computes_what_was_lost(launches):
    first, second = launches.told
    assert named(first, "resumed") == []
    assert [event["step"] for event in named(second, "resumed")] == [SAVE_EVERY]
    assert named(first, "data")[0]["latents_computed"] == PICTURES
    assert named(second, "data")[0]["latents_computed"] == PICTURES // 2  # a shard of each process


def test_steps_that_were_trained_twice_are_equal_bit_for_bit(launches):
    first, second = (steps(told) for told in launches.told)
    assert list(first) == [1, 2, 3, 4]
    assert list(second) == [4, 5, 6, 7, 8, 9, 10]
    assert first[4] == second[4]


def test_the_last_launch_leaves_checkpoints_a_pipeline_and_a_picture(launches):
    last = launches.ended[-1]
    assert (last.state["result"], last.state["exit_code"]) == ("completed", 0), log(launches)
    path = launches.run.path
    assert sorted(folder.name for folder in (path / "checkpoints").iterdir()) == ["checkpoint-10", "checkpoint-9"]
    sizes = json.loads((path / "checkpoints/checkpoint-10" / MARKER).read_text())
    assert any("rank_1" in name for name in sizes)
    assert [event["when"] for event in named(launches.told[-1], "evaluation")] == ["before", "after"]
    assert named(launches.told[-1], "model")[0]["world_size"] == 2
    assert (path / "samples/grid.png").is_file()
    drawn = named(launches.told[-1], "pictures")
    assert [event["step"] for event in drawn] == [4, 8, STEPS]
    assert all(Path(row["thumbnail"]).is_file() for event in drawn for row in event["pictures"])
    assert [event["message"].split()[0] for event in named(launches.told[-1], "warning")] == [str(launches.lost)]
    pipeline = StableDiffusionXLPipeline.from_pretrained(path / "pipeline", torch_dtype=torch.bfloat16)
    saved = torch.load(
        path / f"checkpoints/checkpoint-10/{TAG}/mp_rank_00_model_states.pt", weights_only=False, map_location="cpu"
    )["module"]
    weights = dict(pipeline.unet.named_parameters())
    assert weights.keys() == saved.keys()
    assert not any(torch.equal(weights[name], tensor) for name, tensor in saved.items() if tensor.dim() > 1)
    checkpoint = path / "checkpoints/checkpoint-10"
    shares = [torch.load(checkpoint / f"ema-rank-{rank}.pt") for rank in range(2)]
    assert [share["updates"] for share in shares] == [STEPS, STEPS]
    average = [tensor for share in shares for tensor in share["average"]]  # flat, padded with zeros
    assert torch.equal(all_but_zeros(weights.values()), all_but_zeros(tensor.bfloat16() for tensor in average))


def test_tensorboard_has_every_step_of_both_launches_once_for_all_processes(launches):
    folder = launches.run.path / "tensorboard/run"
    told = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload().Scalars("loss")
    written = {each.step: each.value for each in told}  # what was trained twice is equal
    losses = {step: values[0] for part in launches.told for step, values in steps(part).items()}
    assert written == {step: pytest.approx(loss, rel=1e-6) for step, loss in losses.items()}
    assert len(list(folder.glob("events.*"))) == 2
    assert [event["platform"]["device"] for part in launches.told for event in named(part, "configuration")] == [
        "cpu"
    ] * 2


def test_no_secret_of_the_shell_is_written_anywhere(launches):
    """accelerate can hand the whole environment to DeepSpeed in a file of this name, and adds to it at every launch."""
    run = launches.run.path
    assert [folder for folder in (run, launches.home, Path.cwd()) if (folder / ".deepspeed_env").exists()] == []
    files = [path for folder in (run, launches.home) for path in folder.rglob("*") if path.is_file()]
    assert {run / "plan.json", run / "train.log", run / "events.jsonl"} <= set(files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_torch_elastic_leaves_the_threads_that_the_plan_gives_each_process(launches, monkeypatch):
    threads = launches.run.plan()["environment"]["OMP_NUM_THREADS"]
    arguments = elastic.parse_args(["--nproc_per_node", "2", "script.py"])
    for given, left in (({"OMP_NUM_THREADS": threads}, threads), ({"OMP_NUM_THREADS": "7"}, "7"), ({}, "1")):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        elastic.config_from_args(arguments)
        assert os.environ["OMP_NUM_THREADS"] == left
    assert named(launches.told[0], "configuration")[0]["platform"]["threads"] == int(threads)


# two machines: two launches of one run on this one, each with a process


@pytest.fixture(scope="module")
def machines(assets, tmp_path_factory):
    """The first and the second machine of a run, the second one started first."""
    folder = tmp_path_factory.mktemp("two-machines")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [new_run(folder, assets, LOST_AT - 1, Machines(2, rank, "127.0.0.1", port)) for rank in (0, 1)]
    try:
        for run in reversed(both):
            launch(run)
        request_checkpoint(both[1], status(both[1]))
        yield both, [wait_until_over(run, 240) for run in both]
    finally:
        for run in both:
            end_run(run)


def test_a_checkpoint_that_the_second_machine_asks_for_is_one_more_and_changes_nothing(machines, launches):
    (first, second), _ = machines
    saved = events(first, "checkpoint")
    assert [(event["step"], event["removed"]) for event in saved] == [(1, []), (3, []), (4, ["checkpoint-1"])]
    assert steps(events(first)) == steps(launches.told[0])
    assert not first.checkpoint_json.exists() and not second.checkpoint_json.exists()


def test_two_machines_train_what_two_processes_of_one_do(machines, launches):
    (first, second), ended = machines
    told = (first.log.read_text() + second.log.read_text())[-6000:]
    assert [(each.state["result"], each.state["exit_code"]) for each in ended] == [("completed", 0)] * 2, told
    assert steps(events(first)) == steps(launches.told[0])
    assert named(events(first), "model")[0]["world_size"] == 2


def test_each_machine_has_its_own_supervisor_and_the_first_one_writes_for_both(machines):
    (first, second), ended = machines
    assert second.path == first.path / "machine-1"
    assert [event["event"] for event in events(second)] == ["start", "end"]
    assert ended[1].state["message"] == "its part is done"
    assert ended[0].state["message"] == f"trained {LOST_AT - 1} steps"
    sizes = json.loads((first.path / f"checkpoints/checkpoint-{LOST_AT - 1}" / MARKER).read_text())
    assert all(any(f"rank_{rank}_" in name for name in sizes) for rank in (0, 1))
    assert not (second.path / "checkpoints").exists()
    assert list(first.path.glob(".seen-*")) == []


PDSH = """#!/usr/bin/env python3
import os, subprocess, sys
hosts, command = sys.argv[sys.argv.index("-w") + 1].split(","), sys.argv[sys.argv.index("-w") + 2 :]
bare = {"HOME": os.environ["HOME"], "PATH": "/usr/bin:/bin"}
started = [
    subprocess.Popen(["bash", "-c", " ".join(command).replace("%n", str(rank))], env=bare, cwd="/")
    for rank, host in enumerate(hosts)
]
sys.exit(max(each.wait() for each in started))
"""
"""Starts on this machine what pdsh would start on others: in a shell that knows nothing but what it is told."""


@pytest.mark.exhaustive
def test_pdsh_starts_all_machines_from_the_first_one_and_tells_no_secret(assets, launches, tmp_path, monkeypatch):
    for name, content in (("pdsh", PDSH), ("ssh", "#!/bin/sh\nexit 0\n")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "hosts").write_text("one slots=1\ntwo slots=1\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(launches.home))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = Machines(2, 0, "127.0.0.1", port, launcher="pdsh", hostfile=str(tmp_path / "hosts"))
    started = Launches(new_run(tmp_path, assets, LOST_AT - 1, both))
    try:
        started.launch()
    finally:
        end_run(started.run)
    assert started.ended[0].state["result"] == "completed", log(started)
    assert steps(started.told[0]) == steps(launches.told[0])
    assert not (started.run.path / ".deepspeed_env").exists()
    files = [path for path in started.run.path.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
