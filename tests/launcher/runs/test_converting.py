"""What is refused before a checkpoint is converted, and what a person is told to type."""

import json
import shlex
from collections import namedtuple
from dataclasses import replace

import pytest

from launcher.errors import CannotRunHereError, InvalidInputError, RefusedToOverwriteError
from launcher.runs import converting
from launcher.runs.checkpoints import FACTS, Checkpoint, Identity, why_not_resumed
from launcher.runs.converting import conversion
from launcher.runs.marker import mark, why_damaged, why_not_whole

MINE = Identity(
    model="m", resolution=64, zero_stage=3, precision="bf16", optimizer="AdamW", world_size=1, seed=1,
    global_batch_size=4, pictures=8,
)  # fmt: skip


def made(folder, step: int = 5, **facts):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "weights.bin").write_bytes(bytes(range(256)) * 100)
    (path / FACTS).write_text(json.dumps({**MINE.facts(), **facts}))
    mark(path)
    return path


@pytest.mark.parametrize(
    ("other", "offered"),
    [
        ({"zero_stage": 2}, True),
        ({"zero_stage": None}, True),
        ({"world_size": 2}, True),
        ({"precision": "fp16", "optimizer_on": "NVMe"}, True),
        ({"optimizer": "Adam"}, True),
        ({"optimizer": "Lion"}, False),
        ({"zero_stage": 2, "optimizer": "Lion"}, False),
    ],
)
def test_the_refusal_names_the_command_where_that_helps(tmp_path, other, offered):
    path = made(tmp_path / "a run's" / "checkpoints")
    reason = why_not_resumed(Checkpoint(path, 5, MINE.facts()), replace(MINE, **other))
    command = f"simpletuner-tui convert {shlex.quote(str(path))}"
    assert (command in reason) is offered
    universal = Checkpoint(path, 5, {**MINE.facts(), "form": "universal"})
    assert (why_not_resumed(universal, replace(MINE, **other)) is None) is offered


def test_muon_is_not_sent_to_convert(tmp_path):
    path = made(tmp_path, optimizer="Muon")
    muon = replace(MINE, optimizer="Muon")
    assert "convert" not in why_not_resumed(Checkpoint(path, 5, muon.facts()), replace(muon, zero_stage=2))
    with pytest.raises(InvalidInputError, match="was trained with Muon, whose states cannot be carried over"):
        conversion(path, None)


def test_it_goes_beside_its_source_or_into_another_folder(tmp_path):
    path = made(tmp_path / "checkpoints")
    assert conversion(path, None).target == tmp_path / "checkpoints/checkpoint-5-universal"
    assert conversion(path, tmp_path / "other").target == tmp_path / "other/checkpoint-5-universal"
    assert not (tmp_path / "other").exists()


def test_what_is_there_is_not_replaced(tmp_path):
    path = made(tmp_path)
    conversion(path, None).target.mkdir()
    with pytest.raises(RefusedToOverwriteError, match="checkpoint-5-universal is there already"):
        conversion(path, None)


def test_a_full_disk_is_told_before(tmp_path, monkeypatch):
    path = made(tmp_path)
    monkeypatch.setattr(converting, "free_bytes", lambda _: 1000)
    with pytest.raises(CannotRunHereError, match=r"needs up to 0\.0 GiB, and 0\.0 GiB are free"):
        conversion(path, None)


def test_what_is_no_checkpoint_or_a_damaged_one_is_named_with_an_older_one(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InvalidInputError, match="pictures is no checkpoint; those of a run are folders named"):
        conversion(tmp_path / "pictures", None)
    with pytest.raises(InvalidInputError, match="checkpoint-9 is not there"):
        conversion(tmp_path / "checkpoint-9", None)
    made(tmp_path, 5)
    damaged = made(tmp_path, 7)
    content = bytearray((damaged / "weights.bin").read_bytes())
    content[77] ^= 8
    (damaged / "weights.bin").write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        conversion(damaged, None)
    assert "the content of weights.bin is not what was written" in str(caught.value)
    assert "checkpoint-5 is an older one that is whole" in str(caught.value)
    made(tmp_path, 8, contents="weights")
    with pytest.raises(InvalidInputError, match="holds weights alone"):
        conversion(tmp_path / "checkpoint-8", None)


Damage = namedtuple("Damage", "kind does")
DAMAGES = (
    Damage("cut", lambda file: file.write_bytes(file.read_bytes()[:-1])),
    Damage("gone", lambda file: file.unlink()),
    Damage("zeroed", lambda file: file.write_bytes(bytes(file.stat().st_size))),
    Damage("swapped", lambda file: file.write_bytes(file.read_bytes()[::-1])),
)


@pytest.mark.parametrize("damage", DAMAGES, ids=[each.kind for each in DAMAGES])
@pytest.mark.parametrize("block", [100, 25_600, 2**26])
def test_every_damage_is_found_in_whatever_blocks_a_file_is_read(tmp_path, monkeypatch, damage, block):
    monkeypatch.setattr("launcher.runs.marker.BLOCK", block)
    path = made(tmp_path)
    assert why_not_whole(path) is None
    assert why_damaged(path) is None
    damage.does(path / "weights.bin")
    assert "weights.bin" in (why_not_whole(path) or why_damaged(path))
