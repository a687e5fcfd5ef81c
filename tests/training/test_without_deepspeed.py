"""Answers without DeepSpeed train too: one process, and several CPU processes, through the real launch.

What one process trains on was imported from SimpleTuner: two sources of pictures.
"""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from harness.equal import assert_same
from harness.runs import cli
from launcher.config.training import read_training
from launcher.data.dataset import find
from launcher.runs.directory import RunDirectory
from launcher.runs.events import read_events
from launcher.train.order import Order
from simpletuner_tui.cli import main

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "accelerate.use_deepspeed": "no",
    "accelerate.mixed_precision": "bf16",
    "training.resolution": 32,
    "training.train_batch_size": 4,
    "training.max_train_steps": 4,
    "training.lr_warmup_steps": 1,
    "training.checkpointing_steps": 2,
    "training.num_eval_images": 4,
    "training.num_validation_images": 0,
    "training.cpu_threads": 1,
}
ALONE = {"accelerate.use_cpu": "yes"}
TWO = {
    "accelerate.machine": "multi-CPU",
    "accelerate.num_processes": 2,
    "training.train_batch_size": 2,
    "deepspeed.gradient_accumulation_steps": 2,
    "deepspeed.optimizer.type": "Adagrad",
}
SQUARES, WIDE = 16, 8
TUNER = {
    "model_type": "full",
    "model_family": "sdxl",
    "pretrained_model_name_or_path": "assets/model",
    "data_backend_config": "config/multidatabackend.json",
    "aspect_bucket_alignment": 16,
    "torch_num_threads": 1,
    "num_validation_images": 0,
    "gradient_checkpointing": False,
}
BACKENDS = [
    {
        "id": "squares",
        "type": "local",
        "instance_data_dir": "datasets/squares",
        "caption_strategy": "textfile",
        "resolution": 32,
        "resolution_type": "pixel_area",
        "cache_dir_vae": "cache/vae",
        "repeats": 1,
    },
    {"id": "wide", "type": "local", "instance_data_dir": "datasets/wide", "repeats": 3, "probability": 0.5},
    {"id": "text-embeds", "dataset_type": "text_embeds", "default": True, "cache_dir": "cache/text"},
]
IMPORTED = "imported.json"


@pytest.fixture(scope="module")
def home(assets, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    answers = (ROOT / "examples/demo/answers.json").read_text()
    (folder / "answers.json").write_text(answers)
    (folder / "assets").symlink_to(assets)
    pictures = sorted((assets / "pictures").glob("*.png"))
    for source in ("squares", "wide"):
        (folder / "datasets" / source).mkdir(parents=True)
    for picture in pictures[:SQUARES]:
        for file in (picture, picture.with_suffix(".txt")):
            (folder / "datasets/squares" / file.name).symlink_to(file)
    for picture in pictures[-WIDE:]:  # SimpleTuner's captions without a word: the names
        with Image.open(picture) as image:
            image.resize((128, 32)).save(folder / "datasets/wide" / picture.name)
    (folder / "config").mkdir()
    (folder / "config/config.json").write_text(json.dumps(TUNER))
    (folder / "config/multidatabackend.json").write_text(json.dumps(BACKENDS))
    assert main(["import", str(folder / "config/config.json"), "-o", str(folder / IMPORTED)]) == 0
    return folder


def replay(home: Path, name: str, answers: str = "answers.json", **changes):
    chosen = {**SETTINGS, **changes}
    sets = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
    # As in a shell of another launcher's: what that says of its group is none of this run's.
    return cli("--replay", answers, "--run-dir", name, *sets, cwd=home, RANK="3", WORLD_SIZE="8", MASTER_PORT="9")


def events(path: Path, kind: str) -> list[dict]:
    return [event for event in read_events(RunDirectory(path).events_jsonl)[0] if event["event"] == kind]


@pytest.mark.parametrize(
    ("name", "answers", "changes", "ranks"), [("alone", IMPORTED, ALONE, 1), ("two", "answers.json", TWO, 2)]
)
def test_it_trains_saves_and_exports(home, name, answers, changes, ranks):
    done = replay(home, name, answers, **changes)
    assert done.returncode == 0, done.stderr
    (model,) = events(home / name, "model")
    assert (model["zero_stage"], model["world_size"], model["dtype"]) == (None, ranks, "bfloat16")
    assert "plain PyTorch" in done.stderr
    assert len(events(home / name, "step")) == 4
    assert all(event["grad_norm"] > 0 for event in events(home / name, "step"))
    assert (home / name / "checkpoints/checkpoint-4/engine.pt").is_file()
    assert (home / name / "pipeline/unet/diffusion_pytorch_model.safetensors").is_file()


def test_both_imported_sources_are_trained_on(home):
    (told,) = events(home / "alone", "buckets")
    assert [(bucket["size"], bucket["drawn_per_epoch"]) for bucket in told["buckets"]] == [
        ("32x32", SQUARES * 2),
        ("64x16", WIDE * 4 * 0.5),
    ]
    training, problems = read_training(json.loads((home / "alone/training.json").read_text()))
    assert not problems
    pictures = find(training).pictures
    assert {picture.caption for picture in pictures if picture.source.name == "wide"} == {
        path.stem.replace("_", " ") for path in (home / "datasets/wide").iterdir()
    }
    order = Order(pictures, training.optimization.seed, 4)
    drawn = Counter(pictures[order[number]].source.name for number in range(4 * 4))
    assert drawn.keys() == {"squares", "wide"}


def test_it_continues_bit_for_bit_and_is_not_mixed_with_deepspeed(home):
    whole, half = home / "alone", home / "half"
    shutil.copytree(whole, half)
    shutil.rmtree(half / "checkpoints/checkpoint-4")  # as if it had been stopped before
    (half / "events.jsonl").unlink()
    done = replay(home, "half", IMPORTED, **ALONE)
    assert done.returncode == 0, done.stderr
    (resumed,) = events(half, "resumed")
    assert resumed["step"] == 2
    assert not [event for event in events(half, "warning") if "was made with" in event["message"]]
    told = ("step", "loss", "lr", "grad_norm")
    first, second = ([[event[key] for key in told] for event in events(run, "step")] for run in (whole, half))
    assert [step for step, *_ in second] == [3, 4]
    assert second == first[2:]
    states = [torch.load(run / "checkpoints/checkpoint-4/engine.pt") for run in (whole, half)]
    assert_same(*states, "engine.pt")
    answers = (half / "answers.json").read_bytes()
    done = replay(home, "half", IMPORTED, **{**ALONE, "accelerate.use_deepspeed": "yes"})
    assert done.returncode == 2
    assert "ZeRO stage none (plain PyTorch) there, 2 here" in done.stderr
    assert (half / "answers.json").read_bytes() == answers


def test_other_buckets_and_another_order_are_told_when_it_continues(home):
    """Alignment changes sizes and buckets; the folder has been moved, which changes nothing."""
    shutil.copytree(home / "alone", home / "moved")
    (home / "datasets").rename(home / "elsewhere")
    sources = home / "imported.sources.json"
    sources.write_text(sources.read_text().replace("datasets/", "elsewhere/"))
    changes = {**ALONE, "training.num_eval_images": 0, "training.export_pipeline": "no", "training.max_train_steps": 5}
    done = replay(home, "moved", IMPORTED, **{**changes, "training.aspect_bucket_alignment": 32})
    assert done.returncode == 0, done.stderr
    assert [event["step"] for event in events(home / "moved", "resumed")] == [4]
    (told,) = [event["message"] for event in events(home / "moved", "warning") if "was made with" in event["message"]]
    assert (
        "checkpoint-4 was made with other buckets (32x32: 16 pictures then, 24 now; 64x16: 8 pictures then, 0 now)"
        in told
    )
    assert told.endswith("pictures are cropped to other sizes and the data order changes from here on")
