"""Pictures that lie in rows are written to the cache: how much room they take, and what becomes of old ones."""

import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from launcher.config.training import DataSettings, SourcesSettings, TrainingSettings
from launcher.data import embedded
from launcher.data.dataset import find
from launcher.data.extent import Extent, extent
from launcher.data.sources import read_sources
from launcher.data.unpacked import SOURCE, there
from launcher.errors import CannotRunHereError

SHARDS = {"id": "shards", "type": "parquet", "parquet_path": "shard-*.parquet"}


def picture(number: int, side: int = 64) -> bytes:
    buffer = BytesIO()
    Image.effect_noise((side, side), 50 + number).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def shard(path: Path, count: int, compression: str = "snappy") -> int:
    """A file of so many rows; returns bytes of their pictures."""
    rows = [{"image": {"bytes": picture(n), "path": f"{n}.png"}, "text": f"row {n}"} for n in range(count)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, compression=compression)
    return sum(len(row["image"]["bytes"]) for row in rows)


def listing(folder: Path, *entries) -> TrainingSettings:
    (folder / "sources.json").write_text(json.dumps(entries))
    return TrainingSettings(
        sources=SourcesSettings(data_backend_config=str(folder / "sources.json")),
        data=DataSettings(resolution=64, cache_dir=str(folder / "cache")),
    )


FIND = """
import json, sys
from launcher.config.training import DataSettings, SourcesSettings, TrainingSettings
from launcher.data.dataset import find

training = TrainingSettings(
    sources=SourcesSettings(data_backend_config=sys.argv[1]), data=DataSettings(resolution=64, cache_dir=sys.argv[2])
)
found = find(training, unpacked=True)
pictures = [str(picture.path) for picture in found.pictures]
print(json.dumps([pictures, [[str(each.path), each.bytes, each.source] for each in found.removed]]), flush=True)
sys.stdin.read()
"""


class Run:
    """A process that needs a data set, as long as it is not told to end."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", FIND, str(folder / "sources.json"), str(folder / "cache")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pictures, self.removed = json.loads(self.process.stdout.readline())

    def end(self) -> "Run":
        self.process.communicate()
        return self


def folders(folder: Path) -> set[str]:
    return {path.name for path in (folder / "cache/rows").iterdir()}


@pytest.mark.parametrize("compression", ["snappy", "zstd", "none"])
def test_what_rows_take_is_known_before_they_are_read(tmp_path, compression):
    size = shard(tmp_path / "shard-0.parquet", 3, compression) + shard(tmp_path / "shard-1.parquet", 40, compression)
    (tmp_path / "shard-2.parquet").write_bytes(b"PAR1 and nothing more")
    measured = extent(listing(tmp_path, SHARDS))
    assert measured.pictures == 43
    assert measured.in_rows == pytest.approx(size, rel=0.02)
    assert measured.unknown == ()


def test_of_a_data_set_in_a_folder_files_tell_and_of_the_hub_nothing_does(tmp_path):
    (tmp_path / "rows/data").mkdir(parents=True)
    shard(tmp_path / "rows/data/train.parquet", 4)
    (tmp_path / "files").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "files/a.png")
    entries = [
        {"id": name, "type": "huggingface", "dataset_name": str(place)}
        for name, place in (("rows", tmp_path / "rows"), ("files", tmp_path / "files"), ("hub", "no-body/has-this"))
    ]
    size = (tmp_path / "rows/data/train.parquet").stat().st_size
    assert extent(listing(tmp_path, *entries)) == Extent(0, size, ("hub",))
    assert extent(listing(tmp_path, {"id": "broken"})) == Extent()


def test_a_disk_without_room_is_told_before_a_picture_is_written(tmp_path, monkeypatch):
    size = shard(tmp_path / "shard-0.parquet", 30)
    monkeypatch.setattr(embedded, "free_bytes", lambda _: size // 2)
    training = listing(tmp_path, SHARDS)
    with pytest.raises(CannotRunHereError, match=r"needs 0\.0 GiB more for the pictures of shards, and 0\.0 GiB are"):
        find(training, unpacked=True)
    assert not (tmp_path / "cache").exists()
    monkeypatch.undo()
    assert len(find(training, unpacked=True).pictures) == 30
    monkeypatch.setattr(embedded, "free_bytes", lambda _: 0)  # what is there needs none
    assert len(find(training, unpacked=True).pictures) == 30


def test_what_rows_were_written_to_before_they_changed_is_removed(tmp_path):
    size = shard(tmp_path / "shard-0.parquet", 3)
    listing(tmp_path, SHARDS)
    before = Run(tmp_path).end()
    assert (len(before.pictures), before.removed) == (3, [])
    shard(tmp_path / "shard-0.parquet", 5)
    after = Run(tmp_path).end()
    assert len(after.pictures) == 5
    ((path, removed, source),) = after.removed
    assert path == str(Path(before.pictures[0]).parent)
    assert removed >= size
    assert source == str(tmp_path / "shard-*.parquet")
    assert folders(tmp_path) == {Path(after.pictures[0]).parent.name}
    assert Run(tmp_path).end().removed == []


def test_what_a_living_process_needs_or_another_run_may_need_stays(tmp_path):
    shard(tmp_path / "shard-0.parquet", 3)
    listing(tmp_path, SHARDS)
    living = Run(tmp_path)
    shard(tmp_path / "shard-0.parquet", 5)
    try:
        assert Run(tmp_path).end().removed == []
        assert all(Path(path).is_file() for path in living.pictures)
    finally:
        living.end()
    listing(tmp_path, {**SHARDS, "caption_strategy": "instanceprompt", "instance_prompt": "sks"})
    assert Run(tmp_path).end().removed == []  # other captions of the same rows
    (tmp_path / "cache/rows/by-hand").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "cache/rows/link").symlink_to(outside)
    (outside / SOURCE).write_bytes((Path(living.pictures[0]).parent / SOURCE).read_bytes())
    listing(tmp_path, SHARDS)
    shard(tmp_path / "shard-0.parquet", 6)
    removed = Run(tmp_path).end().removed
    assert {Path(path).parent.name for path, *_ in removed} == {"rows"}
    assert len(removed) == 2  # that of three rows, which nobody needs any more, and that of five
    assert {"by-hand", "link"} < folders(tmp_path)
    assert (outside / SOURCE).exists()
    mine, others = there(tmp_path / "cache", read_sources(listing(tmp_path, SHARDS)))
    assert [len(mine), len(others)] == [1, 1]
    assert mine[0].bytes > 0


def test_what_is_written_half_is_not_what_the_rows_were_before(tmp_path):
    """A source with a faulty row is not done; what it was before stays until it is."""
    shard(tmp_path / "shard-0.parquet", 3)
    listing(tmp_path, SHARDS)
    before = Run(tmp_path).end()
    rows = [{"image": {"bytes": picture(n), "path": None}, "text": text} for n, text in enumerate(("fine", None))]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "shard-0.parquet")
    command = [sys.executable, "-c", FIND, str(tmp_path / "sources.json"), str(tmp_path / "cache")]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert "row 2 has nothing in 'text'" in done.stderr
    assert all(os.path.isfile(path) for path in before.pictures)  # noqa: PTH113
