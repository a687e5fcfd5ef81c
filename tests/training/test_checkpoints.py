"""Checkpoints of a real engine around a small module: kept, whole or not at all, and found again."""

import json
from dataclasses import replace

import pytest
import torch

from harness.recorder import Recorder
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.nested import with_overrides
from launcher.errors import ExitCode, InvalidInputError, RefusedToOverwriteError, RunFailedError
from launcher.runs.checkpoints import FACTS, Identity
from launcher.runs.marker import MARKER
from launcher.train.checkpoint import Checkpoints
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.extensions import TORCH_ADAM

SIDE = 256
IDENTITY = Identity(
    zero_stage=2,
    precision="no",
    optimizer="AdamW",
    world_size=1,
    model="small",
    resolution=SIDE,
    seed=1,
    global_batch_size=2,
    pictures=5,
)
CHECKPOINT_KIB = 4 * 4 * SIDE**2 // 1024
"""Weights, masters and two moments in fp32."""


class Small(torch.nn.Linear):
    """Called as the U-Net is."""

    def forward(self, sample, timestep):
        return super().forward((sample * timestep).to(self.weight.device))


def new_engine(**overrides) -> DeepSpeedEngine:
    config = to_deepspeed_json(
        DeepSpeedSettings(stage=2, precision="no"),
        train_batch_size=2,
        learning_rate=1e-2,
        warmup_steps=1,
        total_steps=9,
    )
    torch.manual_seed(0)
    return DeepSpeedEngine(Small(SIDE, SIDE), with_overrides(config, overrides))


@pytest.fixture(scope="module")
def engine(group) -> DeepSpeedEngine:
    return new_engine()


@pytest.fixture
def checkpoints(group, report, tmp_path):
    def make(keep: int = 10, folder=tmp_path, identity: Identity = IDENTITY, told: Recorder = report) -> Checkpoints:
        return Checkpoints(folder, keep, identity, group, told)

    return make


def step(engine: DeepSpeedEngine) -> None:
    engine.backward(engine(torch.ones(2, SIDE), torch.ones(())).square().mean())
    engine.step()


def weights(engine: DeepSpeedEngine) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in engine.master_weights()}


def names(folder) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_the_newest_are_kept(checkpoints, engine, report, tmp_path):
    some = checkpoints(keep=2)
    for number in (2, 4, 8, 16):
        some.save(engine, number)
    assert names(tmp_path) == ["checkpoint-16", "checkpoint-8"]
    told = report.named("checkpoint")
    assert [event["removed"] for event in told] == [[], [], ["checkpoint-2"], ["checkpoint-4"]]
    size = sum(file.stat().st_size for file in (tmp_path / "checkpoints/checkpoint-16").rglob("*") if file.is_file())
    marker = (tmp_path / "checkpoints/checkpoint-16" / MARKER).stat().st_size
    assert told[-1]["bytes"] == size - marker


def test_what_is_not_whole_is_ignored_and_named_and_never_removed(checkpoints, engine, tmp_path):
    some = checkpoints(keep=1)
    for number in (1, 2, 3, 4, 5):
        checkpoints().save(engine, number)
    folders = {number: tmp_path / f"checkpoints/checkpoint-{number}" for number in (1, 2, 3, 4, 5)}
    (folders[5] / MARKER).unlink()
    cut = max(folders[4].rglob("*.pt"), key=lambda file: file.stat().st_size)
    cut.write_bytes(cut.read_bytes()[:-1])
    (folders[2] / FACTS).unlink()
    (folders[1] / MARKER).write_text("[1, 2]")
    told = Recorder()
    found = checkpoints(told=told).find()
    assert found.step == 3
    for number, reason in {1: "unreadable", 2: f"{FACTS} is missing", 4: cut.name, 5: f"no {MARKER} marker"}.items():
        assert any(str(folders[number]) in warning and reason in warning for warning in told.warnings)
    assert len(told.warnings) == 4
    some.save(engine, 6)
    assert names(tmp_path) == [f"checkpoint-{number}" for number in (1, 2, 4, 5, 6)]


def flip_a_bit(path) -> str:
    """In the middle of a checkpoint's largest file; returns its name."""
    file = max(path.rglob("*.pt"), key=lambda each: each.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file.name


def test_a_flipped_bit_is_found_and_the_next_older_one_taken(checkpoints, engine, report, tmp_path):
    first = checkpoints().save(engine, 1)
    second = checkpoints().save(engine, 2)
    name = flip_a_bit(second)
    assert checkpoints().find().path == first
    (warning,) = report.warnings
    assert f"{second} is not a whole checkpoint (the content of engine/{name} is not what was written)" in warning
    assert "checkpoint-1 is an older one that is whole and is continued instead" in warning
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2.damaged"]
    checkpoints(keep=1).save(engine, 2)
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-2.damaged"]


def test_a_damaged_one_whose_step_comes_again_is_set_aside(checkpoints, engine, report, tmp_path):
    checkpoints().save(engine, 1)
    for aside in ("checkpoint-2.damaged", "checkpoint-2.damaged-2"):
        second = checkpoints().save(engine, 2)
        (second / FACTS).write_text("{")
        assert checkpoints().find().step == 1
        checkpoints().save(engine, 2)
        assert report.warnings[-1] == f"{second} is damaged and is set aside as {aside}"
        assert (second.with_name(aside) / FACTS).read_text() == "{"
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-2", "checkpoint-2.damaged", "checkpoint-2.damaged-2"]


def test_where_all_are_damaged_nothing_begins_anew(checkpoints, engine, tmp_path):
    for number in (1, 2):
        (checkpoints().save(engine, number) / FACTS).write_text("{")
    with pytest.raises(InvalidInputError, match=r"checkpoint-2 is not a whole .*, and none beside it is; move .* away"):
        checkpoints().find()
    for number in (1, 2):  # a save that did not finish is no reason
        (tmp_path / f"checkpoints/checkpoint-{number}" / MARKER).unlink()
    assert checkpoints().find() is None


def test_a_damaged_one_that_is_named_is_refused_with_the_older_one(checkpoints, engine, report, tmp_path):
    for number in (1, 2):
        flip_a_bit(checkpoints().save(engine, number))
    with pytest.raises(InvalidInputError, match=r"checkpoint-2 is not a whole .* checkpoint-1 is an older one"):
        checkpoints().find("checkpoint-2")
    with pytest.raises(InvalidInputError, match="checkpoint-1 is not a whole checkpoint"):  # nothing is left to take
        checkpoints().find()
    (tmp_path / "checkpoints/checkpoint-1" / FACTS).write_text("{")
    with pytest.raises(InvalidInputError, match=f"{FACTS} has 1 bytes instead of"):
        checkpoints().find("checkpoint-1")
    with pytest.raises(InvalidInputError, match=r"checkpoint-7 is not there; checkpoints that can be resumed: none"):
        checkpoints().find("checkpoint-7")


def test_an_older_one_that_is_named_is_continued_and_the_newer_told_of(checkpoints, engine, report):
    for number in (1, 2):
        checkpoints().save(engine, number)
    assert checkpoints().find("checkpoint-1").step == 1
    assert "checkpoint-2 is newer" in report.warnings[0]


def test_one_of_an_earlier_version_has_sizes_alone(checkpoints, engine):
    path = checkpoints().save(engine, 1)
    sizes = {str(file.relative_to(path)): file.stat().st_size for file in path.rglob("*") if file.is_file()}
    sizes.pop(MARKER)
    (path / MARKER).write_text(json.dumps(sizes))
    assert checkpoints().find().step == 1


def write_weights(engine, folder) -> None:
    (folder / "unet").mkdir()
    torch.save(weights(engine), folder / "unet/weights.pt")


def test_weights_alone_are_not_resumed_and_never_cost_the_last_that_is(checkpoints, group, engine, report, tmp_path):
    checkpoints(keep=2).save(engine, 1)
    only = Checkpoints(tmp_path, 2, IDENTITY, group, report, contents="weights")
    for number in (2, 3, 4):
        only.save(engine, number, write_weights)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-3", "checkpoint-4"]
    assert sorted(path.name for path in (tmp_path / "checkpoints/checkpoint-4").iterdir()) == sorted(
        [MARKER, FACTS, "unet"]
    )
    assert checkpoints().find().step == 1
    with pytest.raises(InvalidInputError, match="holds weights alone and cannot be resumed"):
        checkpoints().find("checkpoint-4")
    Checkpoints(tmp_path, 1, IDENTITY, group, report, contents="both").save(engine, 5, write_weights)
    assert names(tmp_path) == ["checkpoint-5"]
    assert {"unet", "engine"} <= {path.name for path in (tmp_path / "checkpoints/checkpoint-5").iterdir()}


def test_the_oldest_goes_first_where_the_disk_has_no_room_for_another(checkpoints, small_disk):
    disk, engine = small_disk(int(2.5 * CHECKPOINT_KIB)), new_engine()
    step(engine)
    some, told = checkpoints(keep=2, folder=disk), Recorder()
    for number in (1, 2):
        some.save(engine, number)
    checkpoints(keep=2, folder=disk, told=told).save(engine, 3)
    assert names(disk) == ["checkpoint-2", "checkpoint-3"]
    assert told.named("checkpoint")[0]["removed"] == ["checkpoint-1"]


def test_no_room_is_told_before_anything_is_written(checkpoints, small_disk):
    disk, engine = small_disk(int(1.5 * CHECKPOINT_KIB)), new_engine()
    step(engine)
    some = checkpoints(keep=1, folder=disk)
    some.save(engine, 1)
    with pytest.raises(RunFailedError, match=r"it takes 0\.0 GiB, as the last one did") as caught:
        some.save(engine, 2)
    assert "Make room and start the run again" in str(caught.value)
    assert names(disk) == ["checkpoint-1"]


def test_nothing_to_continue_is_no_fault(checkpoints, report, engine):
    some = checkpoints()
    assert some.find() is None
    some.require_none()
    assert some.resume(engine, None) == 0
    assert report.events == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"zero_stage": 3}, "ZeRO stage 2 there, 3 here"),
        ({"precision": "bf16"}, "precision no there, bf16 here"),
        ({"optimizer": "Lion"}, "optimizer AdamW there, Lion here"),
        ({"world_size": 2}, "number of processes 1 there, 2 here"),
        ({"zero_stage": 1, "optimizer": "Lion"}, "ZeRO stage 2 there, 1 here; optimizer AdamW there, Lion here"),
    ],
)
def test_what_another_run_made_is_refused_before_anything_is_loaded(checkpoints, engine, tmp_path, other, said):
    path = checkpoints().save(engine, 7)
    with pytest.raises(InvalidInputError) as caught:
        checkpoints(identity=replace(IDENTITY, **other)).find()  # needs no engine
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_another_data_order_is_told_and_accepted(checkpoints, engine, report):
    checkpoints().save(engine, 7)
    assert checkpoints(identity=replace(IDENTITY, seed=2, pictures=6)).find().step == 7
    assert [("seed 1, now 2" in warning, "pictures 5, now 6" in warning) for warning in report.warnings] == [
        (True, False),
        (False, True),
    ]


def test_a_checkpoint_says_whose_adam_made_it(checkpoints, engine):
    checkpoints().save(engine, 1)
    assert not checkpoints().find().torch_adam
    other = new_engine(**TORCH_ADAM)
    step(other)
    checkpoints().save(other, 2)
    found = checkpoints().find()
    assert found.torch_adam
    again = new_engine(**TORCH_ADAM)
    assert checkpoints().resume(again, found) == 2
    step(again)
    step(other)
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(again).items())


def test_starting_over_beside_checkpoints_is_refused(checkpoints, engine):
    path = checkpoints().save(engine, 7)
    with pytest.raises(RefusedToOverwriteError, match=str(path)):
        checkpoints().require_none()


def test_a_full_disk_is_one_message_and_costs_no_earlier_checkpoint(checkpoints, small_disk):
    disk = small_disk(int(2.5 * CHECKPOINT_KIB))
    some, engine = checkpoints(folder=disk), new_engine()
    for number in (1, 2):
        step(engine)
        some.save(engine, number)
    saved = weights(engine)
    step(engine)
    with pytest.raises(RunFailedError) as caught:
        some.save(engine, 3)
    message = str(caught.value)
    assert caught.value.exit_code == ExitCode.RUN_FAILED
    assert f"the checkpoint of step 3 could not be written to {disk / 'checkpoints/checkpoint-3'}" in message
    assert "GiB free there" in message
    assert "Make room and start the run again" in message
    assert "\n" not in message
    assert names(disk) == ["checkpoint-1", "checkpoint-2"]

    told = Recorder()
    again, later = checkpoints(folder=disk, told=told), new_engine()
    assert again.resume(later, again.find()) == 2
    assert told.warnings == []
    assert all(torch.equal(tensor, saved[name]) for name, tensor in weights(later).items())


def test_a_disk_with_room_for_all_but_the_marker_is_full_too(checkpoints, small_disk, engine):
    probe = small_disk(4 * CHECKPOINT_KIB)
    some = checkpoints(folder=probe)
    first = some.save(engine, 1)
    blocks = {file: -(-file.stat().st_size // 4096) * 4 for file in first.rglob("*") if file.is_file()}
    without_facts = sum(kib for file, kib in blocks.items() if file.name not in (FACTS, MARKER))
    disk = small_disk(without_facts)
    with pytest.raises(RunFailedError, match="the checkpoint of step 1 could not be written"):
        checkpoints(folder=disk).save(engine, 1)
    assert names(disk) == []
