"""Checkpoints of a real engine around a small module: kept, whole or not at all, and found again."""

from dataclasses import replace

import pytest
import torch

from harness.recorder import Recorder
from launcher.config.deepspeed import DeepSpeedSettings, to_deepspeed_json, with_overrides
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
