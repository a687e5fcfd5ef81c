"""A run whose optimizer is on NVMe, through the command line: as on the CPU, resumed too, and nothing is left behind.

The folder is on tmpfs: the drives of most machines would corrupt it, which is why they are refused.
"""

import json
from concurrent.futures import ThreadPoolExecutor

from harness.runs import cli, events
from launcher.errors import ExitCode
from launcher.runs.directory import RunDirectory

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
    "accelerate.use_cpu": True,
    "accelerate.use_deepspeed": True,
    "accelerate.zero_stage": 3,
    "accelerate.mixed_precision": "bf16",
    "deepspeed.zero_optimization.sub_group_size": 400_000,
}


def told(run: RunDirectory) -> list[tuple]:
    return [(event["step"], event["loss"], event["lr"], event["grad_norm"]) for event in events(run, "step")]


def test_a_run_on_nvme_is_resumed_and_trains_what_it_trains_on_the_cpu(assets, async_io, in_memory, tmp_path):
    (tmp_path / "assets").symlink_to(assets)

    def replay(place: str, steps: int) -> RunDirectory:
        answers = {**ANSWERS, "accelerate.offload_optimizer": place, "training.max_train_steps": steps}
        if place == "nvme":
            answers["accelerate.optimizer_nvme"] = str(in_memory)
        name = f"{place}.json"
        (tmp_path / name).write_text(json.dumps({"schema": 1, "answers": answers}))
        command = ("--replay", name, "--run-dir", place)
        done = cli(*command, cwd=tmp_path, timeout=280, SIMPLETUNER_TUI_UNSAFE_NVME="1")
        assert done.returncode == ExitCode.OK, done.stderr
        return RunDirectory(tmp_path / place)

    with ThreadPoolExecutor() as pool:
        straight = pool.submit(replay, "cpu", 6)
        replay("nvme", 4)
        resumed = replay("nvme", 6)
        assert told(resumed) == told(straight.result())
    assert [event["step"] for event in events(resumed, "resumed")] == [4]
    swapped = list((resumed.path / "checkpoints/checkpoint-6").rglob("*.swp"))
    assert len(swapped) == 3 * 4
    assert list(in_memory.iterdir()) == []
