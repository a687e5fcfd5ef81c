"""Converted checkpoints of a small module: what any engine makes of them, for every engine that saves and loads."""

import itertools
import tempfile
from dataclasses import replace

import pytest
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.zero.partition_parameters import Init

from launcher.config.deepspeed import DeepSpeedSettings, to_deepspeed_json, with_overrides
from launcher.runs.checkpoints import CONVERTIBLE, Checkpoint, Identity, to_resume
from launcher.runs.converting import conversion
from launcher.runs.marker import mark
from launcher.train.checkpoint import Checkpoints
from launcher.train.convert import convert
from launcher.train.deepspeed_engine import DeepSpeedEngine
from launcher.train.extensions import TORCH_ADAM
from launcher.train.plain_engine import PlainEngine
from launcher.train.universal.form import AVERAGE, MASTER, STATES, Universal

WIDTH = 600
"""Its larger weights take more than the MiB below which nothing is swapped."""
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
SWAP = ""
"""Set by the fixture of that name."""
CPU = {"offload_optimizer_device": "cpu"}
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


class Small(torch.nn.Sequential):
    """Called as the U-Net is; its parameters are two of stage 3's groups."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(torch.nn.Linear(WIDTH, WIDTH), torch.nn.SiLU(), torch.nn.Linear(WIDTH, 7))

    def forward(self, sample, timestep):
        return super().forward(sample * timestep)


@pytest.fixture(scope="module", autouse=True)
def swap(async_io):
    """Where engines swap to, each to a folder of its own: two are alive at once and name their files alike."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "SWAP", folder)
        yield


def new_engine(world, stage, precision="no", overrides=None, **settings):
    if settings.get("offload_optimizer_device") == "nvme":
        settings["offload_optimizer_nvme_path"] = tempfile.mkdtemp(dir=SWAP)
    chosen = DeepSpeedSettings(
        **{"offload_optimizer_device": "none", **settings},
        stage=stage or 0,
        precision=precision,
        sub_group_size=300_000,
    )
    config = to_deepspeed_json(chosen, train_batch_size=2, learning_rate=1e-2, warmup_steps=3, total_steps=9)
    config = with_overrides(config, overrides or {})
    Init.param_id = 0  # swapped files are named by it, and a process that resumes begins to count anew
    unet = Small().to({"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision])
    return PlainEngine(unet, config, world) if stage is None else DeepSpeedEngine(unet, config)


def train(engine, steps: int, dtype=torch.float32, first: int = 0) -> None:
    for step in range(first, first + steps):
        batch = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(step)).to(dtype)
        engine.backward(engine(batch, torch.ones((), dtype=dtype)).float().square().mean())
        engine.step()


def masters(engine) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in engine.master_weights()}


def saved_and_converted(world, engine, folder, report, optimizer="AdamW", **identity) -> Checkpoint:
    mine = replace(IDENTITY, optimizer=optimizer, **identity)
    path = Checkpoints(folder, 10, mine, world, report).save(engine, 3)
    convert(conversion(path, None), lambda done, total: None)
    found = to_resume(folder, "latest")
    assert found.universal
    return found


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_any_engine_continues_what_another_saved(group, report, tmp_path, source, target):
    first = new_engine(group, **ENGINES[source])
    train(first, 3)
    found = saved_and_converted(group, first, tmp_path, report, zero_stage=ENGINES[source]["stage"])
    second = new_engine(group, **ENGINES[target])
    second.load_universal(found.path, found.step)
    assert second.learning_rate == first.learning_rate
    for name, master in masters(second).items():
        assert torch.equal(master, masters(first)[name]), name
    assert_continues(first, second, 1e-4)


def assert_continues(first, second, tolerance: float, dtype=torch.float32) -> None:
    """Three more steps end at the same place, within a part of the distance that they move the weights."""
    before = masters(first)
    for engine in (first, second):
        train(engine, 3, dtype, first=3)
    assert second.learning_rate == first.learning_rate
    after = masters(first)
    apart = torch.stack([(master - after[name]).norm() for name, master in masters(second).items()]).norm()
    moved = torch.stack([(master - after[name]).norm() for name, master in before.items()]).norm()
    assert float(apart) <= tolerance * float(moved)


@pytest.mark.parametrize(
    ("stage", "precision"),
    [
        pytest.param(*case, marks=[] if index in (0, 2, 5, 8) else [pytest.mark.exhaustive])
        for index, case in enumerate(itertools.product((None, 0, 1, 2, 3), ("fp16", "bf16")))
    ],
)
def test_half_precision_keeps_its_masters_and_its_loss_scale(group, report, tmp_path, monkeypatch, stage, precision):
    monkeypatch.setattr(get_accelerator(), "is_fp16_supported", lambda: True)  # DeepSpeed would not on a CPU
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    first = new_engine(group, stage, precision)
    train(first, 3, dtype)
    scale = first.loss_scale
    while precision == "fp16" and first.loss_scale == scale:  # DeepSpeed bears more than one overflow
        first.backward(
            first(torch.full((2, WIDTH), 1e3, dtype=dtype), torch.ones((), dtype=dtype)).float().mean() * 1e30
        )
        first.step()
    found = saved_and_converted(group, first, tmp_path, report, zero_stage=stage, precision=precision)
    with Universal(found.path) as held:
        assert (held.counters.loss_scale is None) == (precision == "bf16")
    second = new_engine(group, stage, precision)
    second.load_universal(found.path, found.step)
    assert second.loss_scale == first.loss_scale
    before = masters(first)
    assert all(torch.equal(master, before[name]) for name, master in masters(second).items())
    assert any(not torch.equal(master, master.to(dtype).float()) for master in before.values())
    assert_continues(first, second, 0, dtype)


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
        first = new_engine(group, stage, optimizer_type=kind, **settings)
        train(first, 3)
        found = saved_and_converted(group, first, tmp_path / str(stage), report, optimizer=kind, zero_stage=stage)
        other = next(each for each in stages if each != stage)
        for target, tolerance in ((stage, 0), (other, 1e-4)):
            second = new_engine(group, target, optimizer_type=kind, **settings)
            second.load_universal(found.path, found.step)
            third = new_engine(group, stage, optimizer_type=kind, **settings)
            train(third, 3)
            assert_continues(third, second, tolerance)


def shares(engine) -> list[torch.Tensor]:
    """This rank's masters as the engine keeps them, which is how a moving average of them is kept."""
    if isinstance(engine, PlainEngine):
        return engine._masters
    optimizer = engine._optimizer
    for name in ("single_partition_of_fp32_groups", "fp32_partitioned_groups_flat"):
        if hasattr(optimizer, name):
            return getattr(optimizer, name)
    return list(engine._names)


@pytest.mark.parametrize("place", ["plain", "zero0", "zero1", "zero3"])
def test_a_moving_average_is_carried_over(group, report, tmp_path, place):
    engine = new_engine(group, **ENGINES[place])
    train(engine, 1)
    path = Checkpoints(tmp_path, 10, replace(IDENTITY, zero_stage=ENGINES[place]["stage"]), group, report).save(
        engine, 1
    )
    averages = [master.detach().clone() * 2 for master in shares(engine)]
    torch.save({"updates": 17, "average": averages}, path / "ema-rank-0.pt")
    mark(path)
    convert(conversion(path, None), lambda done, total: None)
    with Universal(to_resume(tmp_path, "latest").path) as held:
        assert held.counters.averaged == 17
        for name, master in masters(engine).items():
            assert torch.equal(held.tensor(AVERAGE, name), master * 2), name
            assert torch.equal(held.tensor(MASTER, name), master), name


def test_what_can_be_converted_is_what_has_names_for_its_states():
    assert set(CONVERTIBLE) == set(STATES)
