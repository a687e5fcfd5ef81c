"""Converted checkpoints of a small module: what any engine makes of them, for every engine that saves and loads."""

import itertools
import tempfile
from dataclasses import replace

import pytest
import torch
from deepspeed.accelerator import get_accelerator

from harness import small_engines
from harness.small_engines import CPU, WIDTH, assert_same, averages, distance, masters, train
from launcher.config.training import EmaSettings
from launcher.runs.checkpoints import CONVERTIBLE, Checkpoint, Identity, to_resume
from launcher.runs.converting import conversion
from launcher.train import ema
from launcher.train.checkpoint import Checkpoints
from launcher.train.convert import convert
from launcher.train.extensions import TORCH_ADAM
from launcher.train.universal.filling import Piece, fill
from launcher.train.universal.form import MASTER, STATES, Counters, Universal, write

IDENTITY = Identity(
    zero_stage=2,
    precision="no",
    optimizer="AdamW",
    world_size=1,
    model="small",
    resolution=WIDTH,
    seed=1,
    global_batch_size=2,
    pictures=5,
)
DONE = 5
"""Steps before the save; what DeepSpeed's Adam on a CPU keeps to itself makes a difference to the next."""
SWAP = ""
"""Set by the fixture of that name."""
ENGINES = {
    "plain": {"stage": None},
    "zero0": {"stage": 0},
    "zero1": {"stage": 1},
    "zero2-cpu": {"stage": 2, **CPU},
    "zero3": {"stage": 3},
    "zero3-cpu": {"stage": 3, **CPU},
    "zero3-nvme": {"stage": 3, "offload_optimizer_device": "nvme"},
}

IN_CI = (
    ("plain", "zero1"),
    ("plain", "zero2-cpu"),
    ("plain", "zero3"),
    ("plain", "zero0"),
    ("zero0", "zero3-cpu"),
    ("zero1", "plain"),
    ("zero2-cpu", "plain"),
    ("zero3", "plain"),
    ("zero2-cpu", "zero3"),
    ("zero3", "zero2-cpu"),
    ("zero3-cpu", "zero1"),
    ("zero3-nvme", "zero2-cpu"),
    ("zero2-cpu", "zero3-nvme"),
)
PAIRS = [
    pytest.param(*pair, marks=[] if pair in IN_CI else [pytest.mark.exhaustive])
    for pair in itertools.product(ENGINES, ENGINES)
]


@pytest.fixture(scope="module", autouse=True)
def swap(async_io):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "SWAP", folder)
        yield


def new_engine(world, stage, *args, **settings):
    return small_engines.new_engine(world, stage, *args, swap=SWAP, **settings)


class Engine:
    """One in training, with a moving average but where its masters are swapped, which a rule refuses."""

    def __init__(self, world, report, settings, checkpoint=None) -> None:
        self.engine = new_engine(world, **settings)
        self.dtype = small_engines.DTYPES[settings.get("precision", "no")]
        if checkpoint:
            self.engine.load_universal(checkpoint.path, checkpoint.step)
        averaged = EmaSettings(use_ema=settings.get("offload_optimizer_device") != "nvme", ema_decay=0.5)
        self.average = ema.begin(self.engine, averaged, world, checkpoint, report)

    def train(self, steps: int, first: int = 0) -> None:
        train(self.engine, steps, self.dtype, first, self.average)

    @property
    def masters(self) -> dict[str, torch.Tensor]:
        return masters(self.engine)

    @property
    def averages(self) -> dict[str, torch.Tensor]:
        return averages(self.engine, self.average) if self.average else {}

    @property
    def scalars(self) -> tuple[float | None, ...]:
        return self.engine.learning_rate, self.engine.loss_scale


class Straight:
    """An engine that was saved and converted after some steps and went on for three more."""

    def __init__(self, world, report, folder, before_save=lambda engine: None, **settings) -> None:
        self.world, self.report = world, report
        first = Engine(world, report, settings)
        first.train(DONE)
        before_save(first.engine)
        self.saved, self.averages, self.scalars = first.masters, first.averages, first.scalars
        self.checkpoint = saved_and_converted(world, first.engine, first.average, folder, report, settings)
        first.train(3, DONE)
        self.ended, self.averages_at_end, self.scalars_at_end = first.masters, first.averages, first.scalars
        self.moved = distance(self.ended, self.saved)
        assert self.moved > 1
        assert not self.averages or distance(self.averages_at_end, self.averages) > 0.1 * self.moved

    def assert_continued(self, tolerance: float, **settings) -> None:
        """By another engine, which ends within a part of the distance that the three steps moved the weights."""
        second = Engine(self.world, self.report, settings, self.checkpoint)
        carried = bool(self.averages and second.average)
        assert second.scalars == self.scalars
        assert_same(second.masters, self.saved)
        if carried:
            assert_same(second.averages, self.averages)
        second.train(3, DONE)
        assert second.scalars == self.scalars_at_end
        assert distance(second.masters, self.ended) <= tolerance * self.moved
        if carried:
            assert distance(second.averages, self.averages_at_end) <= tolerance * self.moved
            assert self.report.warnings == []


def saved_and_converted(world, engine, average, folder, report, settings) -> Checkpoint:
    mine = replace(
        IDENTITY,
        zero_stage=settings["stage"],
        precision=settings.get("precision", "no"),
        optimizer=settings.get("optimizer_type", "AdamW"),
    )
    path = Checkpoints(folder, 10, mine, world, report).save(engine, DONE, average=average)
    convert(conversion(path, None), lambda done, total: None)
    found = to_resume(folder, "latest")
    assert found.universal
    return found


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_any_engine_continues_what_another_saved(group, report, tmp_path, source, target):
    straight = Straight(group, report, tmp_path, **ENGINES[source])
    straight.assert_continued(0 if source == target else 1e-4, **ENGINES[target])


@pytest.mark.parametrize(
    ("stage", "precision"),
    [
        pytest.param(*case, marks=[] if index in (0, 2, 5, 8) else [pytest.mark.exhaustive])
        for index, case in enumerate(itertools.product((None, 0, 1, 2, 3), ("fp16", "bf16")))
    ],
)
def test_half_precision_keeps_its_masters_and_its_loss_scale(group, report, tmp_path, monkeypatch, stage, precision):
    monkeypatch.setattr(get_accelerator(), "is_fp16_supported", lambda: True)  # DeepSpeed would not on a CPU
    dtype = small_engines.DTYPES[precision]

    def overflow(engine) -> None:
        scale = engine.loss_scale
        while precision == "fp16" and engine.loss_scale == scale:  # DeepSpeed bears more than one
            large, one = torch.full((2, WIDTH), 1e3, dtype=dtype), torch.ones((), dtype=dtype)
            engine.backward(engine(large, one).float().mean() * 1e30)
            engine.step()

    straight = Straight(group, report, tmp_path, overflow, stage=stage, precision=precision)
    with Universal(straight.checkpoint.path) as held:
        assert (held.counters.loss_scale is None) == (precision == "bf16")
    assert any(not torch.equal(master, master.to(dtype).float()) for master in straight.saved.values())
    straight.assert_continued(0, stage=stage, precision=precision)


def test_gradients_accumulated_in_fp32_take_another_optimizer_and_are_converted_too(group, report, tmp_path):
    in_fp32 = {"stage": 1, "precision": "bf16", "overrides": {"data_types.grad_accum_dtype": "fp32"}}

    def is_another(engine) -> None:
        assert type(engine._optimizer).__name__ == "BF16_Optimizer"

    straight = Straight(group, report, tmp_path, is_another, **in_fp32)
    straight.assert_continued(0, **in_fp32)
    straight.assert_continued(1e-2, stage=3, precision="bf16")  # whose gradients are in bf16


@pytest.mark.parametrize(
    ("kind", "stages", "settings"),
    [
        ("AdamW", (1, 2, 3), {**CPU, "overrides": TORCH_ADAM}),
        pytest.param("Adagrad", (None, 1, 2, 3), {}, marks=pytest.mark.exhaustive),
        pytest.param("Adagrad", (1, 3), CPU, marks=pytest.mark.exhaustive),
        pytest.param("Lion", (1, 2, 3), CPU, marks=pytest.mark.exhaustive),
    ],
    ids=["torch's AdamW", "Adagrad", "Adagrad on the CPU", "Lion on the CPU"],
)
def test_other_optimizers(group, report, tmp_path, kind, stages, settings):
    for stage in stages:
        straight = Straight(group, report, tmp_path / str(stage), stage=stage, optimizer_type=kind, **settings)
        other = next(each for each in stages if each != stage)
        straight.assert_continued(0, stage=stage, optimizer_type=kind, **settings)
        straight.assert_continued(1e-4, stage=other, optimizer_type=kind, **settings)


@pytest.mark.parametrize("stage", [None, 0, 3])
def test_groups_of_weight_decay_are_told_apart(group, report, tmp_path, stage):
    straight = Straight(group, report, tmp_path, stage=stage, exclude="norms_and_biases")
    straight.assert_continued(1e-4, stage=1, exclude="norms_and_biases")


def test_an_average_without_an_update_is_carried_over(group, report, tmp_path):
    first = new_engine(group, 1)
    settings = EmaSettings(use_ema=True, ema_update_interval=100)
    average = ema.begin(first, settings, group, None, report)
    began = masters(first)
    train(first, DONE, average=average)
    found = saved_and_converted(group, first, average, tmp_path, report, {"stage": 1})
    second = new_engine(group, 2)
    second.load_universal(found.path, found.step)
    assert_same(averages(second, ema.begin(second, settings, group, found, report)), began)
    assert ema.begin(second, EmaSettings(), group, found, report) is None
    assert report.warnings == [f"{found.path} has a moving average, which ends here: training.use_ema is off"]


def test_a_share_as_long_as_a_parameter_is_not_taken_for_it(tmp_path):
    whole = torch.arange(4.0)
    write(tmp_path, [("one", {MASTER: whole}), ("other", {MASTER: 10 + whole})], Counters(updates=1, schedule=0))
    share = torch.zeros(4)
    with Universal(tmp_path) as checkpoint:
        fill(share, [Piece("one", 2, 0, 2), Piece("other", 2, 2, 2)], MASTER, checkpoint)
    assert share.tolist() == [2, 3, 12, 13]


def test_what_can_be_converted_is_what_has_names_for_its_states():
    assert set(CONVERTIBLE) == set(STATES)
