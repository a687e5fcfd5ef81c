"""``import``: SimpleTuner's sources of pictures as a file of sources, each of their keys accounted for."""

import json
from pathlib import Path

import pytest

from harness.fake_model import write_model, write_pictures
from launcher.config.training import DataSettings, SourcesSettings, TrainingSettings
from launcher.data.dataset import find
from launcher.data.sources import read_sources
from simpletuner_tui.cli import main
from simpletuner_tui.questions import REGISTRY
from simpletuner_tui.simpletuner.importing import Imported, import_config
from simpletuner_tui.simpletuner.rows import Fate, Row

CONFIG = {
    "model_type": "full",
    "model_family": "sdxl",
    "pretrained_model_name_or_path": "model",
    "data_backend_config": "config/multidatabackend.json",
    "train_batch_size": 2,
    "num_train_epochs": 2,
    "mixed_precision": "bf16",
    "caption_strategy": "textfile",
    "resolution": 64,
}
CATS = {
    "id": "cats",
    "type": "local",
    "dataset_type": "image",
    "instance_data_dir": "datasets/cats",
    "crop": True,
    "crop_style": "center",
    "crop_aspect": "square",
    "resolution": 64,
    "resolution_type": "pixel_area",
    "minimum_image_size": 0,
    "maximum_image_size": 2048,
    "target_downsample_size": 1024,
    "minimum_aspect_ratio": 0.5,
    "maximum_aspect_ratio": 3.0,
    "prepend_instance_prompt": False,
    "instance_prompt": "a photo of sks",
    "only_instance_prompt": True,
    "caption_strategy": "textfile",
    "metadata_backend": "discovery",
    "cache_dir_vae": "cache/vae/cats",
    "vae_cache_clear_each_epoch": False,
    "probability": "0.5",
    "repeats": "3",
    "text_embeds": "text-embeds",
    "skip_file_discovery": "",
}
DOGS = {
    "id": "dogs",
    "instance_data_dir": "datasets/dogs",
    "crop": False,
    "resolution": 0.25,
    "resolution_type": "area",
    "minimum_image_size": 0.2,
    "caption_strategy": "filename",
    "repeats": 1,
    "max_num_samples": 2,
}
HUB = {
    "id": "paintings",
    "type": "huggingface",
    "dataset_name": "owner/name",
    "caption_strategy": "huggingface",
    "metadata_backend": "huggingface",
    "huggingface": {"caption_column": "title", "fallback_caption_column": "tags", "split": "test"},
    "probability": 0.1,
}
OTHERS = [
    {"id": "text-embeds", "type": "local", "dataset_type": "text_embeds", "default": True, "cache_dir": "cache/text"},
    {"id": "bucket", "type": "aws", "aws_bucket_name": "cats"},
    {"id": "off", "disabled": True, "type": "local", "instance_data_dir": "datasets/cats"},
    {"id": "vae", "type": "local"},
]


@pytest.fixture
def tuner(tmp_path, monkeypatch):
    """SimpleTuner's own folder."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model")
    write_pictures(tmp_path / "datasets/cats", count=4)
    write_pictures(tmp_path / "datasets/dogs", count=6, side=512)
    for caption in (tmp_path / "datasets/dogs").glob("*.txt"):
        caption.unlink()
    (tmp_path / "config").mkdir()
    return tmp_path


def write(folder: Path, *backends, **options) -> Path:
    (folder / "config/multidatabackend.json").write_text(json.dumps(backends))
    (folder / "config/config.json").write_text(json.dumps({**CONFIG, **options}))
    return folder / "config/config.json"


def imported(folder: Path, *backends, **options) -> Imported:
    return import_config(
        write(folder, *backends, **options), REGISTRY, {"deepspeed": True}, folder / "here/a.sources.json"
    )


def row_of(result: Imported, key: str) -> Row:
    (row,) = [row for row in result.rows if row.key == f"multidatabackend.json{key}"]
    return row


def test_every_source_is_carried_and_every_key_is_told(tuner):
    result = imported(tuner, CATS, DOGS, HUB, *OTHERS)
    assert result.sources == (
        {
            "id": "cats",
            "type": "local",
            "instance_data_dir": "../datasets/cats",
            "crop": True,
            "resolution": 64,
            "resolution_type": "pixel_area",
            "minimum_image_size": 1,
            "maximum_aspect_ratio": 3.0,
            "instance_prompt": "a photo of sks",
            "caption_strategy": "instanceprompt",
            "probability": 0.5,
            "repeats": 3,
        },
        {
            "id": "dogs",
            "instance_data_dir": "../datasets/dogs",
            "crop": False,
            "resolution": 512,
            "resolution_type": "pixel_area",
            "minimum_image_size": 447,
            "caption_strategy": "filename",
            "repeats": 1,
        },
        {
            "id": "paintings",
            "type": "huggingface",
            "dataset_name": "owner/name",
            "caption_strategy": "huggingface",
            "caption_column": "title",
            "split": "test",
            "probability": 0.1,
        },
    )
    told = {row.key: row.fate for row in result.rows}
    for index, source in enumerate((CATS, DOGS)):
        assert {f"multidatabackend.json[{index}].{key}" for key in source} <= set(told)
    assert told["multidatabackend.json[0].repeats"] is Fate.KEPT
    assert told["multidatabackend.json[0].probability"] is Fate.TRANSLATED
    assert told["multidatabackend.json[0].cache_dir_vae"] is Fate.LEFT
    assert told["multidatabackend.json[1].max_num_samples"] is Fate.LEFT
    assert told["multidatabackend.json[2].huggingface.caption_column"] is Fate.KEPT
    assert told["multidatabackend.json[2].huggingface.fallback_caption_column"] is Fate.LEFT
    for index, other in enumerate(OTHERS, start=3):
        assert row_of(result, f"[{index}] ('{other['id']}')").fate is Fate.LEFT
    assert "training.instance_data_dir" not in result.resolved.values
    assert not result.needed
    (epochs,) = [row for row in result.rows if row.key == "num_train_epochs"]
    assert "how many pictures there are, which is not known" in epochs.how  # the hub's are not counted


ONE = {"id": "one", "type": "local", "instance_data_dir": "datasets/cats", "caption_strategy": "textfile"}
TWO = {**ONE, "id": "two"}


@pytest.mark.parametrize(
    ("said", "carried"),
    [
        ({"crop": True, "crop_aspect": "closest"}, {"crop": False}),
        ({"crop": "false", "crop_aspect": "random", "crop_style": "random"}, {"crop": False}),
        ({"resolution": 1.0, "resolution_type": "area"}, {"resolution": 1024, "resolution_type": "pixel_area"}),
        ({"resolution": 768, "resolution_type": "pixel"}, {"resolution": 768, "resolution_type": "pixel"}),
        ({"resolution_type": "pixel", "minimum_image_size": 768}, {"minimum_image_size": 768}),
        ({"resolution_type": "pixel_area", "minimum_image_size": 768}, {"minimum_image_size": 768}),
        ({"resolution_type": "pixel_area", "minimum_image_size": 0.75}, {"minimum_image_size": 866}),
        ({"minimum_aspect_ratio": 0.25}, {"maximum_aspect_ratio": 4.0}),
        ({"caption_strategy": None}, {"caption_strategy": None}),
        ({"parquet": {"path": "c.parquet", "filename_column": "id", "width_column": "w"}},
         {"parquet_path": "../c.parquet", "filename_column": "id"}),
        ({"instance_data_dir": "/pictures"}, {"instance_data_dir": "/pictures"}),
        ({"instance_data_dir": "~/pictures"}, {"instance_data_dir": str(Path("~/pictures").expanduser())}),
        ({"probability": 0}, {"probability": 1.0}),
        ({"repeats": None, "start_epoch": 1, "start_step": 0, "is_regularisation_data": False}, {"repeats": None}),
        ({"type": "huggingface", "dataset_name": "datasets"}, {"dataset_name": "{here}/datasets"}),
        ({"id": "two"}, {"id": "two"}),
    ],
)  # fmt: skip
def test_what_a_source_says_is_said_here(tuner, said, carried):
    result = imported(tuner, {**ONE, **said}, TWO)
    source = result.sources[0]
    found = {key: source.get(key) for key in carried}
    assert found == {key: str(tuner / "datasets") if value == "{here}/datasets" else value
                     for key, value in carried.items()}  # fmt: skip
    assert all(row.fate is not Fate.LEFT for row in result.rows if row.key.startswith("multidatabackend.json[0]"))
    assert len({source["id"] for source in result.sources}) == 2


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("repeats", "often", "is no number"),
        ("repeats", -1, "at least 0"),
        ("probability", 1.5, "at most 1"),
        ("caption_strategy", "csv", "must be one of"),
        ("caption_strategy", "huggingface", "must be one of"),
        ("caption_column", ["a", "b"], "in one column"),
        ("prepend_instance_prompt", True, "write instance_prompt into them"),
        ("disable_multiline_split", False, "one caption"),
        ("crop", "maybe", "neither true nor false"),
        ("resolution", 5000, "at most 4096 px"),
        ("resolution_type", "volume", "is no resolution_type"),
        ("maximum_aspect_ratio", 0.5, "both orientations"),
        ("start_step", 300, "first step to the last"),
        ("is_regularisation_data", True, "take it out"),
        ("delete_unwanted_images", True, "ever deleted"),
        ("conditioning_data", "masks", "no such setting"),
    ],
)
def test_what_a_source_cannot_say_here_has_a_reason(tuner, key, value, why):
    result = imported(tuner, {**ONE, key: value}, TWO)
    row = row_of(result, f"[0].{key}")
    assert row.fate is Fate.LEFT
    assert why in row.how
    assert key not in result.sources[0] or key == "id"


def test_random_crops_say_why_they_are_not(tuner):
    result = imported(tuner, {**ONE, "crop": True, "crop_style": "random", "crop_aspect": "random"}, TWO)
    assert "in the middle" in row_of(result, "[0].crop_style").how
    assert row_of(result, "[0].crop_aspect").fate is Fate.LEFT
    assert result.sources[0]["crop"] is False


def test_what_simpletuner_does_without_a_word_is_written(tuner):
    silent = {"instance_data_dir": "datasets/cats"}
    options = {"caption_strategy": None}
    result = imported(tuner, silent, {**silent, "type": "huggingface", "dataset_name": "a/b"}, **options)
    assert [source["caption_strategy"] for source in result.sources] == ["filename", "huggingface"]
    assert [source["id"] for source in result.sources] == ["source-0", "source-1"]
    assert row_of(result, "[0].caption_strategy (left out)").how == "what SimpleTuner does then"
    assert "caption_strategy" not in imported(tuner, silent, {**silent, "id": "b"}).sources[0]


def test_one_folder_needs_no_file_and_its_own_words_hold_over_those_for_all(tuner):
    only = {**ONE, "repeats": 2, "probability": 0.5, "resolution": 512, "caption_strategy": "filename"}
    result = imported(tuner, only, *OTHERS)
    assert result.sources == ()
    values = result.resolved.values
    assert values["training.instance_data_dir"] == "datasets/cats"
    assert (values["training.resolution"], values["training.caption_strategy"]) == (512, "filename")
    (said_for_all,) = [row for row in result.rows if row.key == "resolution"]
    assert said_for_all.how == "another key says 512, and that holds"
    assert row_of(result, "[0].repeats").fate is Fate.TRANSLATED
    assert values["training.max_train_steps"] == 2 * (4 * 3 * 0.5) / 2


def test_epochs_count_repeats_of_all_folders(tuner):
    result = imported(tuner, {**CATS, "repeats": 2, "probability": 1}, {**DOGS, "probability": 0.5})
    assert result.resolved.values["training.max_train_steps"] == 2 * (4 * 3 + 6 * 2 * 0.5) / 2


def test_the_command_writes_both_files_that_check_takes_and_overwrites_neither(tuner, capsys):
    write(tuner, {**CATS, "cache_dir_vae": None}, DOGS, *OTHERS)
    (tuner / "here").mkdir()
    command = ["import", "config/config.json", "-o", "here/a.json"]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sources"] == str(tuner / "here/a.sources.json")
    repeats = next(row for row in told["keys"] if row["key"] == "multidatabackend.json[0].repeats")
    assert repeats["source"] == {"repeats": 3}
    answers = json.loads((tuner / "here/a.json").read_text())["answers"]
    assert answers["training.data_backend_config"] == "./a.sources.json"
    assert "training.instance_data_dir" not in answers

    training = TrainingSettings(
        sources=SourcesSettings(data_backend_config=str(tuner / "here/a.sources.json")),
        data=DataSettings(resolution=64),
    )
    assert [(source.id, source.repeats, source.probability) for source in read_sources(training)] == [
        ("cats", 3, 0.5),
        ("dogs", 1, 1.0),
    ]
    drawn = {(picture.source.name, picture.caption, str(picture.bucket)) for picture in find(training).pictures}
    assert ("cats", "a photo of sks", "64x64") in drawn
    assert ("dogs", "00", "512x512") in drawn
    assert main(["check", "here/a.json", "--set", "accelerate.use_cpu=yes"]) == 0
    assert "10 pictures in 2 buckets" in capsys.readouterr().err
    assert main(["--replay", "here/a.json", "--dry-run", "--set", "accelerate.use_cpu=yes"]) == 0

    before = {path: path.read_bytes() for path in (tuner / "here").iterdir()}
    write(tuner, CATS, {**DOGS, "repeats": 5, "resolution": 0.5}, *OTHERS)  # the steps change too
    assert main(command) == 4
    refused = capsys.readouterr().err
    assert "a.sources.json is there already; --force replaces it, and keeps it as a.sources.json.bak" in refused
    assert {path: path.read_bytes() for path in (tuner / "here").iterdir()} == before
    assert main([*command, "--force"]) == 0
    assert {path: path.with_name(f"{path.name}.bak").read_bytes() for path in before} == before
