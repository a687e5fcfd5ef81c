"""The troubleshooting table of SimpleTuner's DeepSpeed document: each entry with the outcome it promises.

NVMe is a folder on tmpfs here: the drives of most machines would corrupt what DeepSpeed swaps, and are refused.
"""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from harness.fake_model import write_model, write_pictures
from harness.runs import cli, end_run, events, wait_for
from harness.tiny_zero import TINY
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.errors import ExitCode
from launcher.machine.gpus import Gpus
from launcher.preflight import Machine
from launcher.runs.directory import RunDirectory
from simpletuner_tui.answers import Answers
from simpletuner_tui.cli import main
from simpletuner_tui.launching import prepare
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.questions.resolving import resolve

ANSWERS = {
    "training.pretrained_model_name_or_path": "./assets/model",
    "training.instance_data_dir": "./assets/pictures",
    "training.resolution": 32,
    "training.train_batch_size": 2,
    "training.learning_rate": 1e-3,
    "training.lr_warmup_steps": 1,
    "training.gradient_checkpointing": False,
    "training.export_pipeline": False,
    "training.num_eval_images": 0,
    "training.cpu_threads": 1,
    "training.checkpointing_steps": 4,
    "accelerate.use_cpu": True,
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 3,
    "accelerate.mixed_precision": "bf16",
    "deepspeed.zero_optimization.sub_group_size": 400_000,
    "deepspeed.zero_optimization.stage3_max_reuse_distance": TINY["stage3_max_reuse_distance"],
}
WAIVED = {"SIMPLETUNER_TUI_UNSAFE_NVME": "1"}
LAST = 12


def told(run: RunDirectory, first: int = 1) -> list[tuple]:
    """The steps of the last launch."""
    steps = {event["step"]: (event["loss"], event["lr"], event["grad_norm"]) for event in events(run, "step")}
    return [(step, *values) for step, values in steps.items() if step >= first]


# "DeepSpeed crash on resume": training crashes when it resumes with offload


def test_a_run_that_was_killed_while_it_swapped_resumes_and_trains_what_it_would_have(
    assets, async_io, in_memory, tmp_path
):
    (tmp_path / "assets").symlink_to(assets)

    def replay(place: str, steps: int, *more: str):
        answers = {**ANSWERS, "accelerate.offload_optimizer": place, "training.max_train_steps": steps}
        name = f"{place}.json"
        (tmp_path / name).write_text(json.dumps({"schema": 1, "answers": answers}))
        folder = ("--offload_param_path", str(in_memory)) if place == "nvme" else ()
        done = cli("--replay", name, "--run-dir", place, *folder, *more, cwd=tmp_path, timeout=280, **WAIVED)
        assert done.returncode == ExitCode.OK, done.stderr
        return RunDirectory(tmp_path / place)

    with ThreadPoolExecutor() as pool:
        straight = pool.submit(replay, "cpu", LAST)
        killed = replay("nvme", 1000, "--detach")
        wait_for(lambda: events(killed, "checkpoint"), 240)
        end_run(killed)  # SIGKILL, to all of its processes
        (left,) = in_memory.iterdir()
        assert list(left.rglob("*.swp"))
        resumed = replay("nvme", LAST)
        (start,) = (event["step"] for event in events(resumed, "resumed"))
        assert 4 <= start < LAST
        here, there = told(resumed, start + 1), told(straight.result(), start + 1)
        assert [each[:3] for each in here] == [each[:3] for each in there]
        # In memory this launcher's optimizer takes the norm, from NVMe DeepSpeed's: sums in another order.
        assert [norm for *_, norm in here] == pytest.approx([norm for *_, norm in there], rel=1e-6)
    (removed,) = events(resumed, "swap_removed")
    assert (removed["path"], removed["bytes"] > 2**20) == (str(left), True)
    swapped = list((resumed.path / f"checkpoints/checkpoint-{LAST}").rglob("*.swp"))
    assert len(swapped) == 3 * 4
    assert list(in_memory.iterdir()) == []
    # What the document tells people to look at is in the run's own events.
    configuration = events(resumed, "configuration")[-1]
    offload = configuration["deepspeed"]["zero_optimization"]["offload_optimizer"]
    assert (offload["device"], offload["nvme_path"]) == ("nvme", str(in_memory))
    assert configuration["platform"]["device"] == "cpu"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with answers that this machine can run on its CPU."""
    write_model(tmp_path / "assets/model")
    write_pictures(tmp_path / "assets/pictures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    write_answers()
    return tmp_path


def write_answers(**more: object) -> dict[str, object]:
    answers = {**ANSWERS, "training.resolution": 64, "accelerate.offload_optimizer": "cpu", **more}
    Path("answers.json").write_text(json.dumps({"schema": 1, "answers": answers}))
    return answers


# "Unsupported optimizer error": names are normalised, and replaced with AdamW, with a warning


@pytest.mark.parametrize("name", ["cpuadam", "FusedAdam", " adamw ", "Prodigy"])
def test_an_optimizer_that_is_not_supported_becomes_adamw_and_is_said(home, name, capsys):
    config = {"zero_optimization": {"stage": 2}, "optimizer": {"type": name, "params": {"lr": 1e-4}}}
    Path("ds.json").write_text(json.dumps(config))
    assert main(["deepspeed", "ds.json", "--check"]) == 0
    checked = capsys.readouterr()
    assert json.loads(checked.out)["optimizer"]["type"] == "AdamW"
    assert f'changed optimizer.type: {json.dumps(name)} → "AdamW"' in checked.err.replace("->", "→")
    kept = {key: value for key, value in ANSWERS.items() if not key.startswith("deepspeed.")}
    del kept["accelerate.zero_stage"], kept["accelerate.mixed_precision"]
    by_file = {**kept, "accelerate.ds_use_json": True, "accelerate.ds_json": "ds.json", "training.resolution": 64}
    Path("answers.json").write_text(json.dumps({"schema": 1, "answers": by_file}))
    assert main(["check", "answers.json"]) == 0
    assert f"note: ds.json: optimizer.type: {name!r} is taken for 'AdamW'" in capsys.readouterr().err


# "DeepSpeed not available on this platform": disabled on MPS and ROCm, and on those alone


def test_deepspeed_is_not_offered_on_mps_and_not_started_on_rocm(home):
    on_apple = resolve(REGISTRY, {}, {"deepspeed": True, "mps": True})
    assert "accelerate.use_deepspeed" not in {question.id for question in on_apple.asked}
    on_linux = resolve(REGISTRY, {}, {"deepspeed": True})
    assert "accelerate.use_deepspeed" in {question.id for question in on_linux.asked}

    def ends_with(machine: Machine, **more: object) -> ExitCode:
        return prepare(Answers(write_answers(**more), home), home / "run", machine=machine).exit_code

    rocm = replace(Machine(), gpus=lambda: Gpus((), "no NVIDIA driver"), why_not_cuda=lambda: "torch is built for ROCm")
    assert ends_with(rocm, **{"accelerate.use_cpu": False}) is ExitCode.CANNOT_RUN_HERE
    assert ends_with(rocm) is ExitCode.OK  # on its CPU
    assert ends_with(replace(rocm, why_not_cuda=lambda: None), **{"accelerate.use_cpu": False}) is ExitCode.OK


# "NVMe offload path issues": the path is checked, and buffers are sized, before anything is loaded


def test_an_offload_path_is_checked_and_its_buffers_are_sized(home, in_memory, monkeypatch, capsys):
    write_answers(**{"accelerate.offload_optimizer": "nvme", "accelerate.offload_param": "nvme"})
    Path("file").touch()
    for folder, why in (
        ("file", f"{home}/file is a file"),
        ("/proc/nvme", "/proc cannot be written"),
        (str(in_memory), "it is in host memory (tmpfs)"),
    ):
        assert main(["check", "answers.json", "--offload_param_path", folder]) == ExitCode.CANNOT_RUN_HERE
        assert why in capsys.readouterr().err
    assert main(["check", "answers.json", "--set", "accelerate.optimizer_nvme="]) == ExitCode.USAGE
    assert "error: accelerate.optimizer_nvme: an answer is needed here" in capsys.readouterr().err
    for name, value in WAIVED.items():
        monkeypatch.setenv(name, value)
    main(["--replay", "answers.json", "--dry-run", "--json", "--offload_param_path", str(in_memory)])
    written = json.loads(json.loads(capsys.readouterr().out)["files"]["deepspeed.json"])
    offload = written["zero_optimization"]["offload_param"]
    assert (offload["nvme_path"], offload["buffer_size"]) == (
        str(in_memory),
        DeepSpeedSettings().offload_param_buffer_size,
    )


# "Configuration validation errors": invalid parameters are named, and what the builder makes is valid


def test_every_invalid_parameter_is_named_at_once_and_what_is_normalised_is_valid(home, capsys):
    wrong = {
        "zero_optimization": {"stage": 7, "offload_optimizer": {"device": "disk"}},
        "gradient_clipping": -1,
        "scheduler": {"type": "Polynomial"},
    }
    Path("ds.json").write_text(json.dumps(wrong))
    assert main(["deepspeed", "ds.json", "--check"]) == ExitCode.USAGE
    message = capsys.readouterr().err
    for field in (
        "zero_optimization.stage",
        "zero_optimization.offload_optimizer.device",
        "gradient_clipping",
        "scheduler.type",
    ):
        assert f"error {field}: " in message
    Path("ds.json").write_text('{"zero_optimization": {"stage": 2,}}')
    assert main(["deepspeed", "ds.json", "--check"]) == ExitCode.USAGE
    assert "is not JSON (line 1, column" in capsys.readouterr().err

    odd = {"zero_stage": "2", "zero_optimization": {"offload_optimizer": {"device": " CPU "}}, "optimizer": "adam"}
    Path("ds.json").write_text(json.dumps(odd))
    assert main(["deepspeed", "ds.json", "--check"]) == 0
    normalised = capsys.readouterr().out
    Path("ds.json").write_text(normalised)
    assert main(["deepspeed", "ds.json", "--check"]) == 0
    again = capsys.readouterr()
    assert again.out == normalised
    assert "changed" not in again.err
