"""Where pictures and captions come from: every strategy, a file of sources, rows; and every fault of them by name."""

import csv
import json
import os
import subprocess
import sys
from io import BytesIO

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from harness.hub import Hub
from launcher.config.training import (
    CaptionSettings,
    DataSettings,
    PreparationSettings,
    SourcesSettings,
    TrainingSettings,
)
from launcher.data.dataset import find
from launcher.data.extent import Extent, extent
from launcher.data.sources import read_sources
from launcher.errors import InvalidInputError


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory):
    """Nothing is asked of the hub, and what ``datasets`` keeps is kept apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets"))
        yield


def draw(folder, *names, size=(64, 64)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (90, 20, 10)).save(folder / name)


def encoded(size=(64, 64), kind="PNG") -> bytes:
    buffer = BytesIO()
    Image.new("RGB", size, (1, 2, 3)).save(buffer, kind)
    return buffer.getvalue()


def folder_of(folder, resolution=64, **captions) -> TrainingSettings:
    return TrainingSettings(
        data=DataSettings(instance_data_dir=str(folder), resolution=resolution),
        captions=CaptionSettings(**captions),
    )


def listing(folder, *entries, resolution=64, **preparation) -> TrainingSettings:
    """Settings that name a file of these sources."""
    (folder / "sources.json").write_text(json.dumps(entries))
    return TrainingSettings(
        sources=SourcesSettings(data_backend_config=str(folder / "sources.json")),
        data=DataSettings(resolution=resolution, cache_dir=str(folder / "cache")),
        preparation=PreparationSettings(**preparation),
    )


def captions(training, **options) -> dict[str, str]:
    return {picture.path.name: picture.caption for picture in find(training, **options).pictures}


def faults(training, **options) -> list[str]:
    with pytest.raises(InvalidInputError) as refused:
        find(training, **options)
    return [line.strip() for line in str(refused.value).splitlines()]


# captions of a folder


def test_names_are_captions(tmp_path):
    draw(tmp_path, "a_red_bear.png", "sub/Zwei Bären 🐻.jpg")
    found = captions(folder_of(tmp_path, caption_strategy="filename"))
    assert found == {"a_red_bear.png": "a red bear", "Zwei Bären 🐻.jpg": "Zwei Bären 🐻"}


def test_one_caption_for_all(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    training = folder_of(tmp_path, caption_strategy="instanceprompt", instance_prompt="a photo of sks")
    assert set(captions(training).values()) == {"a photo of sks"}
    lacking = folder_of(tmp_path, caption_strategy="instanceprompt")
    assert faults(lacking) == ["caption_strategy instanceprompt needs training.instance_prompt"]


ROWS = [
    {"file_name": "a.png", "text": 'a cat, "striped"', "more": 1},
    {"file_name": "sub/b.png", "text": " 日本語 🐞\n", "more": None},
]
EXPECTED = {"a.png": 'a cat, "striped"', "b.png": "日本語 🐞"}


def write_rows(path, rows) -> None:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8-sig")


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "metadata.parquet"])
def test_imagefolder_metadata(tmp_path, name):
    draw(tmp_path, "a.png", "sub/b.png")
    write_rows(tmp_path / name, ROWS)
    assert captions(folder_of(tmp_path, caption_strategy="metadata")) == EXPECTED


def test_metadata_of_a_folder_below_counts_from_there_and_columns_are_chosen(tmp_path):
    draw(tmp_path, "train/a.png", "test/a.png")
    for split in ("train", "test"):
        (tmp_path / split / "metadata.jsonl").write_text(json.dumps({"file": "a.png", "title": split}))
    training = folder_of(tmp_path, caption_strategy="metadata", filename_column="file", caption_column="title")
    assert [picture.caption for picture in find(training).pictures] == ["test", "train"]


def test_a_parquet_file_of_captions_lies_anywhere_and_may_leave_out_suffixes(tmp_path):
    draw(tmp_path / "pictures", "a.png", "sub/b.png")
    rows = [{"file_name": row["file_name"].removesuffix(".png"), "text": row["text"]} for row in ROWS]
    write_rows(tmp_path / "captions.parquet", rows)
    training = folder_of(
        tmp_path / "pictures", caption_strategy="parquet", parquet_path=str(tmp_path / "captions.parquet")
    )
    assert captions(training) == EXPECTED
    lacking = folder_of(tmp_path / "pictures", caption_strategy="parquet")
    assert faults(lacking) == ["caption_strategy parquet needs training.parquet_path"]


def test_rows_that_are_of_no_use_are_named_all_at_once(tmp_path):
    draw(tmp_path, "a.png", "b.png", "c.png", "d.png", "e.png", "f.png")
    (tmp_path / "notes.md").touch()
    lines = [
        '{"file_name": "a.png", "text": NaN}',
        '{"file_name": "b.png", "text": Infinity}',
        '{"file_name": "c.png"}',
        '{"file_name": "d.png", "text": null}',
        '{"file_name": "gone.png", "text": "x"}',
        '{"file_name": "notes.md", "text": "x"}',
        '{"file_name": ["a.png"], "text": "x"}',
        '{"file_name": "e.png", "text": ""}',
        '{"file_name": "e.png", "text": "again"}',
        '{"file_name": "f.png", "text": "\\ud800"}',
    ]
    file = tmp_path / "metadata.jsonl"
    file.write_text("\n".join(lines))
    header, *told = faults(folder_of(tmp_path, caption_strategy="metadata"))
    assert header == f"{tmp_path} cannot be trained on yet:"
    assert told == [
        f"{file} row 1 has nothing in 'text'",
        f"{file} row 2 has inf in 'text', which is no text",
        f"{file} row 3 has no column 'text'; it has 'file_name'",
        f"{file} row 4 has nothing in 'text'",
        f"{file} row 5 names {tmp_path}/gone.png, which is not there",
        f"{file} row 6 names {tmp_path}/notes.md, which is no picture",
        f"{file} row 7 has ['a.png'] in 'file_name', which is no text",
        f"{file} row 9 names {tmp_path}/e.png again, after {file} row 8",
        f"{file} row 10 has half a character in 'text'; it cannot be written as UTF-8",
    ]


def test_a_picture_without_a_row_is_named(tmp_path):
    draw(tmp_path, "a.png", "b.png")
    write_rows(tmp_path / "metadata.csv", [{"file_name": "a.png", "text": "x"}])
    assert faults(folder_of(tmp_path, caption_strategy="metadata"))[1:] == [
        f"{tmp_path}/b.png: has no row in metadata.csv; add one or remove the picture"
    ]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("metadata.jsonl", b'{"file_name": "a.png", "text": "x"}\n{"file_name"', "row 2 is no JSON"),
        ("metadata.jsonl", b"[1]", "row 1 is no object but [1]"),
        ("metadata.jsonl", b"[" * 100_000, "row 1 is no JSON"),
        ("metadata.jsonl", "é".encode("latin-1"), "is not UTF-8 text"),
        ("metadata.csv", b'file_name,text\na.png,"x" y\n', "line 2 is no CSV"),
        ("metadata.csv", b'file_name,text\na.png,"x\n', "line 2 is no CSV (unexpected end"),
        ("metadata.csv", b"file_name,text\na.png,x,y\n", "line 2 has more values than the header has columns; quote"),
        ("metadata.csv", b"file_name,text\na.png\n", "row 1 has nothing in 'text'"),
        ("metadata.csv", b"file_name;text\na.png;x\n", "row 1 has no column 'file_name'; it has 'file_name;text'"),
        ("metadata.parquet", b"PAR1 and nothing more", "is no whole parquet file"),
        ("metadata.parquet", b"", "is no whole parquet file"),
    ],
)
def test_broken_tables_are_named(tmp_path, name, content, fault):
    draw(tmp_path, "a.png")
    (tmp_path / name).write_bytes(content)
    told = "\n".join(faults(folder_of(tmp_path, caption_strategy="metadata")))
    assert f"{tmp_path / name} {fault}" in told


def test_a_folder_without_metadata_and_one_whose_metadata_is_not_asked_for(tmp_path):
    draw(tmp_path, "a.png")
    assert faults(folder_of(tmp_path, caption_strategy="metadata"))[1].startswith(
        f"{tmp_path}: has no metadata.jsonl or"
    )
    write_rows(tmp_path / "metadata.jsonl", ROWS[:1])
    (fault,) = faults(folder_of(tmp_path))[1:]
    assert fault.endswith("beside it, or take those of metadata.jsonl with training.caption_strategy=metadata")


# a file of sources


def test_sources_have_their_own_captions_repeats_sizes_and_names(tmp_path):
    draw(tmp_path / "one", "a.png", "b.png")
    draw(tmp_path / "two", "a.png", size=(128, 128))
    training = listing(
        tmp_path,
        {"id": "one", "instance_data_dir": "one", "caption_strategy": "filename", "probability": 0.5},
        {
            "id": "two",
            "type": "local",
            "dataset_type": "image",
            "instance_data_dir": "two",
            "caption_strategy": "instanceprompt",
            "instance_prompt": "sks",
            "repeats": 3,
            "resolution": 0.016384,
            "resolution_type": "area",
            "crop": True,
        },
        {"id": "off", "disabled": True, "instance_data_dir": "nowhere"},
        {"id": "text-embeds", "dataset_type": "text_embeds", "default": True, "cache_dir": "x"},
    )
    found = find(training).pictures
    assert [(picture.path.parent.name, picture.caption, str(picture.bucket)) for picture in found] == [
        ("one", "a", "64x64"),
        ("one", "b", "64x64"),
        ("two", "sks", "128x128"),
    ]
    assert [(picture.source.name, picture.source.repeats, picture.source.probability) for picture in found[1:]] == [
        ("one", 0, 0.5),
        ("two", 3, 1.0),
    ]
    assert extent(training) == Extent(pictures=3)


def test_a_folder_may_be_two_sources(tmp_path):
    draw(tmp_path / "one", "a.png")
    entry = {"instance_data_dir": "one", "caption_strategy": "filename"}
    found = find(listing(tmp_path, {"id": "x", **entry}, {"id": "y", **entry, "repeats": 1})).pictures
    assert [picture.source.name for picture in found] == ["x", "y"]


def test_every_fault_of_the_file_is_told_at_once(tmp_path):
    told = faults(
        listing(
            tmp_path,
            {"id": "a", "instance_data_dir": "a", "repeat": 2, "colour": 1},
            {"id": "a", "instance_data_dir": "a", "probability": 2},
            {"id": "b", "type": "aws"},
            {"id": "c", "type": "huggingface"},
            {"instance_data_dir": "d", "resolution": 100.5},
            {"id": "e", "instance_data_dir": "e", "dataset_type": "video"},
            "f",
        )
    )
    assert told[0] == f"{tmp_path}/sources.json cannot be used yet:"
    assert told[1] == "a: repeat is not a setting of a source; did you mean repeats?"
    assert told[2].startswith("a: colour is not a setting of a source; there are id, type, instance_data_dir, ")
    assert told[3:] == [
        "a: probability must be at most 1, not 2",
        "b: type must be one of local, huggingface, parquet, not 'aws'",
        "c: a source of type huggingface needs dataset_name",
        "entry 5: id must not be empty",
        "e: dataset_type 'video' is not trained on here; only image is",
        "entry 7 must be an object, not 'f'",
    ]


def test_two_sources_have_two_ids_and_faults_of_all_folders_are_told(tmp_path):
    entry = {"id": "a", "instance_data_dir": "a"}
    assert faults(listing(tmp_path, entry, entry))[1:] == ["a: two sources have this id"]
    draw(tmp_path / "b", "no.png")
    told = faults(listing(tmp_path, entry, {"id": "b", "instance_data_dir": "b"}))
    assert told[0] == f"{tmp_path}/sources.json cannot be trained on yet:"
    assert told[1].startswith(f"{tmp_path}/a is not a folder")
    assert told[2].startswith(f"{tmp_path}/b/no.png: has no caption")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"{}", "must hold a list of sources"),
        (b"[]", "no source of pictures is in it"),
    ],
)
def test_a_file_that_lists_nothing_is_named(tmp_path, content, fault):
    training = listing(tmp_path)
    (tmp_path / "sources.json").unlink()
    if content is not None:
        (tmp_path / "sources.json").write_bytes(content)
    assert fault in "\n".join(faults(training))


# pictures in rows


def table_of(rows, caption_column) -> pyarrow.Table:
    """As ``datasets`` writes it: the schema says which column holds pictures."""
    features = {"image": {"_type": "Image"}, caption_column: {"dtype": "string", "_type": "Value"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pyarrow.Table.from_pylist(rows).replace_schema_metadata(metadata)


def shard(path, rows) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def test_pictures_in_parquet_files_become_files_once(tmp_path):
    pictures = [{"image": {"bytes": encoded(), "path": f"{n}.png"}, "text": f"row {n}"} for n in range(4)]
    shard(tmp_path / "shard-0.parquet", pictures[:2])
    shard(tmp_path / "shard-1.parquet", [{"image": encoded(kind="WEBP"), "text": "plain bytes"}])
    training = listing(tmp_path, {"id": "rows", "type": "parquet", "parquet": {"path": "shard-*.parquet"}})
    assert find(training).later == ("rows",)
    assert not (tmp_path / "cache").exists()
    found = captions(training, unpacked=True)
    assert found == {"00000000.png": "row 0", "00000001.png": "row 1", "00000002.picture": "plain bytes"}
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert captions(training, unpacked=True) == found
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()} == written


def test_rows_without_a_picture_or_a_caption_are_named(tmp_path):
    rows = [
        {"image": {"bytes": None, "path": None}, "text": "x"},
        {"image": {"bytes": encoded(), "path": None}, "text": None},
        {"image": {"bytes": b"no picture", "path": None}, "text": "x"},
    ]
    file = tmp_path / "a.parquet"
    shard(file, rows)
    entry = {"id": "rows", "type": "parquet", "parquet_path": "a.parquet"}
    told = faults(listing(tmp_path, entry), unpacked=True)[1:]
    assert told[:2] == [f"{file} row 1 has no picture", f"{file} row 2 has nothing in 'text'"]
    assert "cannot be read as a picture" in told[2]
    assert faults(listing(tmp_path, {**entry, "image_column": "img"}), unpacked=True) == [
        f"{file} has no column 'img'; it has 'image', 'text'"
    ]
    assert "is not there" in faults(listing(tmp_path, {**entry, "parquet_path": "b*.parquet"}), unpacked=True)[0]


def test_a_data_set_that_datasets_loads(tmp_path):
    """A folder in the imagefolder convention and one of parquet files, as the hub has them."""
    draw(tmp_path / "folder/train", "a.png", "b.png")
    write_rows(tmp_path / "folder/train/metadata.jsonl", [{"file_name": f"{n}.png", "text": n} for n in "ab"])
    (tmp_path / "rows/data").mkdir(parents=True)
    pictures = [{"image": {"bytes": encoded(), "path": "x.png"}, "title": title} for title in ("one", "two")]
    pyarrow.parquet.write_table(table_of(pictures, "title"), tmp_path / "rows/data/train-00000-of-00001.parquet")
    folder = {"id": "folder", "type": "huggingface", "dataset_name": str(tmp_path / "folder")}
    rows = {
        "id": "rows",
        "type": "huggingface",
        "caption_strategy": "huggingface",
        "huggingface": {"dataset_name": str(tmp_path / "rows"), "caption_column": "title"},
    }
    training = listing(tmp_path, folder, rows)
    assert captions(training, unpacked=True) == {
        "a.png": "a", "b.png": "b", "00000000.png": "one", "00000001.png": "two"
    }  # fmt: skip
    wrong = [{**folder, "caption_column": "title"}, {**folder, "id": "x", "split": "tests"}]
    wrong += [{**folder, "id": "y", "image_column": "text"}, {**folder, "id": "z", "dataset_name": "no-body/has-this"}]
    told = "\n".join(faults(listing(tmp_path, *wrong), unpacked=True))
    assert "folder: the data set" in told
    assert "has no column 'title'; it has" in told
    assert "x: the data set" in told
    assert "y: the column 'text' of" in told
    assert "z: the data set no-body/has-this cannot be loaded: " in told


FIND = """
import json, sys
from launcher.config.training import DataSettings, SourcesSettings, TrainingSettings
from launcher.data.dataset import find

data = DataSettings(resolution=64, cache_dir=sys.argv[2])
training = TrainingSettings(sources=SourcesSettings(data_backend_config=sys.argv[1]), data=data)
print(json.dumps([[picture.caption, picture.width] for picture in find(training, unpacked=True).pictures]))
"""


def test_a_data_set_of_the_hub_is_downloaded_once(tmp_path):
    """From a server that stands in for the hub; then from the cache of ``datasets``, without it."""
    pictures = [{"image": {"bytes": encoded((70, 64)), "path": "x.png"}, "text": f"row {n}"} for n in range(2)]
    (tmp_path / "set").mkdir()
    pyarrow.parquet.write_table(table_of(pictures, "text"), tmp_path / "set/train-00000-of-00001.parquet")
    listing(tmp_path, {"id": "hub", "type": "huggingface", "dataset_name": "someone/pictures"})

    def run(**environment: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", FIND, str(tmp_path / "sources.json"), str(tmp_path / "cache")]
        variables = {**os.environ, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1", **environment}
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    with Hub() as hub:
        hub.models["someone/pictures"] = tmp_path / "set"
        online = run(HF_ENDPOINT=hub.url)
        assert [name for name, _ in hub.transfers if name.endswith(".parquet")] == ["train-00000-of-00001.parquet"]
    offline = run(HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1")
    for done in (online, offline):
        assert json.loads(done.stdout.splitlines()[-1]) == [["row 0", 70], ["row 1", 70]], done.stderr
    assert sorted(path.name for path in (tmp_path / "cache/rows").glob("*/*.png")) == ["00000000.png", "00000001.png"]


def test_the_file_stands_in_for_the_folder():
    with pytest.raises(InvalidInputError, match=r"a source of type local needs training\.instance_data_dir"):
        read_sources(TrainingSettings())
