"""Which picture each step trains on: one bucket a step, every picture equally often, the same on every rank."""

import json
from collections import Counter
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.recorder import Recorder
from launcher.config.deepspeed import DeepSpeedSettings
from launcher.config.deepspeed_json import to_deepspeed_json
from launcher.config.training import DataSettings, PreparationSettings, SourcesSettings, TrainingSettings
from launcher.data.buckets import Size
from launcher.data.dataset import find
from launcher.data.draws import buckets_of, order_digest
from launcher.data.pictures import Picture, Source
from launcher.errors import InvalidInputError
from launcher.train import caches
from launcher.train.batches import Batch, Batches, Division
from launcher.train.dataset import find_pictures
from launcher.train.engine import Engine
from launcher.train.loop import Loop
from launcher.train.objective import diffusion_loss
from launcher.train.order import Order, epoch_order
from launcher.train.plain_engine import PlainEngine
from launcher.train.report import Report

SIZES = [Size(8, 8), Size(16, 8), Size(8, 16), Size(24, 8)]
SOURCES = [Source("one"), Source("often", repeats=2), Source("half", probability=0.5), Source("some", 1, 0.3)]

data_sets = st.lists(
    st.tuples(st.sampled_from(SIZES), st.sampled_from(SOURCES), st.integers(1, 9)), min_size=1, max_size=6
).map(
    lambda parts: [
        Picture(Path(f"/pictures/{part}-{n}"), "", *size, size, source)
        for part, (size, source, count) in enumerate(parts)
        for n in range(count)
    ]
)
batch_sizes = st.integers(1, 12)


@given(data_sets, batch_sizes, st.integers(0, 2**63 - 1), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_every_step_is_of_one_bucket_whenever_it_is_asked(pictures, batch, seed, step):
    drawn = [Order(pictures, seed, batch)[number] for number in range(step * batch, (step + 1) * batch)]
    assert len({pictures[index].bucket for index in drawn}) == 1
    order = Order(pictures, seed, batch)
    order[0]
    assert [order[number] for number in range(step * batch, (step + 1) * batch)] == drawn


@given(data_sets, batch_sizes, st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_every_picture_is_drawn_as_often_as_its_source_says(pictures, batch, seed):
    """After so many epochs no picture is further from its due than a batch and a pass through its source."""
    epochs = 20
    order, buckets = Order(pictures, seed, batch), buckets_of(pictures)
    steps = int(epochs * sum(bucket.rate for bucket in buckets) / batch)
    drawn = Counter(order[number] for number in range(steps * batch))
    for index, picture in enumerate(pictures):
        times = (1 + picture.source.repeats) * picture.source.probability
        slack = 2 + times + 2 * batch * len(buckets) / min(bucket.pictures for bucket in buckets)
        assert abs(drawn[index] - epochs * times) <= slack


@given(st.integers(1, 40), batch_sizes, st.integers(0, 2**32), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_one_bucket_is_gone_through_epoch_by_epoch(count, batch, seed, number):
    pictures = [Picture(f"{n}", "", 8, 8, SIZES[0], SOURCES[0]) for n in range(count)]
    epoch, place = divmod(number, count)
    assert Order(pictures, seed, batch)[number] == epoch_order(seed, epoch, count)[place]


@given(data_sets, st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_ranks_and_accumulation_share_out_the_same_global_batch(pictures, step):
    whole = Division(rank=0, world_size=1, micro_batch_size=8, accumulation=1)
    order = Order(pictures, 5, 8)
    drawn = [order[number] for number in whole.numbers(step, 0)]
    shared = [
        order[number]
        for micro_step in range(2)
        for rank in range(2)
        for number in Division(rank, 2, 2, 2).numbers(step, micro_step)
    ]
    assert shared == drawn


def changed(pictures, index, **fields):
    return [replace(each, **fields) if number == index else each for number, each in enumerate(pictures)]


@given(data_sets, batch_sizes, st.integers(0, 2**32), st.data())
@settings(max_examples=60, deadline=None)
def test_the_digest_of_an_order_says_whether_it_is_the_same(pictures, batch, seed, data):
    digest = order_digest(pictures)
    larger = [
        replace(each, path=Path("/moved") / each.path.name, bucket=Size(*(2 * side for side in each.bucket)))
        for each in pictures
    ]
    assert order_digest(larger) == digest
    one, other = Order(pictures, seed, batch), Order(larger, seed, batch)
    assert [one[number] for number in range(20)] == [other[number] for number in range(20)]
    index = data.draw(st.integers(0, len(pictures) - 1))
    source, bucket = pictures[index].source, pictures[index].bucket
    often = [
        replace(each, source=replace(source, repeats=source.repeats + 1)) if each.source == source else each
        for each in pictures
    ]
    assert order_digest(often) != digest
    if sum(each.bucket == bucket for each in pictures) > 1:
        assert order_digest(changed(pictures, index, bucket=Size(64, 8))) != digest
    if len(pictures) > 1:
        assert order_digest(changed(pictures, index, path=Path("/pictures/another"))) != digest


def test_buckets_take_turns_rather_than_one_after_another():
    pictures = [Picture(f"{n}", "", *SIZES[n % 2], SIZES[n % 2], SOURCES[0]) for n in range(80)]
    order = Order(pictures, 3, 2)
    turns = [pictures[order[2 * step]].bucket for step in range(40)]
    assert sum(one != other for one, other in pairwise(turns)) > 10
    assert Counter(turns) == {SIZES[0]: 20, SIZES[1]: 20}


# through the caches and an engine

SHAPES = {"a": (64, 64), "b": (33, 40), "c": (90, 54), "d": (48, 29), "e": (16, 64), "f": (65, 66), "g": (20, 70)}
TIME_IDS = {
    # original (height, width), crop (top, left), target (height, width); alignment 8
    "a": [64, 64, 0, 0, 32, 32],
    "b": [40, 33, 3, 0, 32, 32],  # scaled to 32 x 39
    "c": [54, 90, 0, 0, 24, 40],  # scaled to 40 x 24
    "d": [29, 48, 0, 0, 24, 40],  # scaled to 40 x 24
    "e": [64, 16, 0, 0, 64, 16],
    "f": [66, 65, 0, 0, 32, 32],
    "g": [70, 20, 0, 1, 64, 16],  # scaled to 18 x 64
}


@pytest.fixture(scope="module")
def mixed(model, alone, tmp_path_factory):
    """Pictures of several aspects, cached; and what was told of them."""
    folder = tmp_path_factory.mktemp("mixed")
    for name, size in SHAPES.items():
        Image.effect_noise(size, 60).convert("RGB").save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(name)
    training = TrainingSettings(
        data=DataSettings(instance_data_dir=str(folder), resolution=32, cache_dir=str(folder / "cache")),
        preparation=PreparationSettings(aspect_bucket_alignment=8),
    )
    told = Recorder()
    pictures = find_pictures(training, 2, alone, told)
    assert pictures == find(training).pictures
    return caches.prepare(training, model, pictures, torch.float32, alone, Report()), told


def test_pictures_of_rows_as_they_were_before_are_removed_and_that_is_told(alone, tmp_path):
    shards, rows = tmp_path / "shards.parquet", tmp_path / "cache/rows"
    (tmp_path / "sources.json").write_text(
        json.dumps([{"id": "a", "type": "parquet", "parquet_path": "shards.parquet"}])
    )
    training = TrainingSettings(
        sources=SourcesSettings(data_backend_config=str(tmp_path / "sources.json")),
        data=DataSettings(resolution=32, cache_dir=str(tmp_path / "cache")),
    )

    def found(count: int) -> Recorder:
        pixels, told = BytesIO(), Recorder()
        Image.new("RGB", (64, 64)).save(pixels, "PNG")
        row = {"image": {"bytes": pixels.getvalue(), "path": None}, "text": "row"}
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row] * count), shards)
        assert len(find_pictures(training, 2, alone, told)) == count
        return told

    assert found(2).named("rows_removed") == []
    (needed,) = rows.iterdir()  # by this process, as long as it lives
    (rows / "old").mkdir()
    (rows / "old/source.json").write_bytes((needed / "source.json").read_bytes())
    (rows / "old/00000000.png").write_bytes(bytes(1000))
    (removed,) = found(3).named("rows_removed")
    assert (removed["path"], removed["source"]) == (str(rows / "old"), str(shards))
    assert removed["bytes"] > 1000
    assert needed.exists()
    assert not (rows / "old").exists()


def test_a_bucket_with_too_few_pictures_is_told_or_refused(mixed, alone):
    folder = str(mixed[0].entries[0].picture.path.parent)
    chosen = PreparationSettings(aspect_bucket_alignment=8, maximum_aspect_ratio=3.0)
    training = TrainingSettings(data=DataSettings(instance_data_dir=folder, resolution=32), preparation=chosen)
    told = Recorder()
    find_pictures(training, 3, alone, told)
    left_out, short = [event["message"] for event in told.named("warning")]
    assert left_out.startswith("2 of the pictures are left out:\n")
    assert short.startswith(
        "1 of 2 buckets has fewer pictures than the 3 that a step takes (40x24 has 2): a step takes"
    )
    strict = replace(training, preparation=replace(chosen, allow_dataset_oversubscription=False))
    with pytest.raises(InvalidInputError, match=r"40x24 has 2\); lower the batch, add pictures, have fewer buckets"):
        find_pictures(strict, 3, alone, told)
    find_pictures(strict, 2, alone, told)


@pytest.fixture
def batches(mixed, model) -> Batches:
    return Batches(
        mixed[0],
        seed=5,
        scaling_factor=model.vae_scaling_factor,
        timesteps=1000,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )


def test_each_sample_keeps_its_true_sizes(mixed):
    dataset, _ = mixed
    for index in range(len(dataset)):
        sample = dataset[index]
        expected = TIME_IDS[sample.path.stem]
        assert sample.time_ids.tolist() == expected
        assert sample.mean.shape[1:] == (expected[4] // 4, expected[5] // 4)


def test_the_table_is_an_event_and_what_recurs_a_warning(mixed):
    _, told = mixed
    (event,) = told.named("buckets")
    assert [(row["size"], row["pictures"]) for row in event["buckets"]] == [("16x64", 2), ("32x32", 3), ("40x24", 2)]
    assert told.named("warning") == []


def equal(one: Batch, other: Batch) -> bool:
    parts = [(getattr(one, name), getattr(other, name)) for name in Batch.__slots__]
    return all(torch.equal(*pair) if isinstance(pair[0], torch.Tensor) else pair[0] == pair[1] for pair in parts)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_batch_is_of_one_bucket_and_a_resumed_run_goes_on_with_the_same(batches, rank):
    division = Division(rank=rank, world_size=2, micro_batch_size=2, accumulation=2)
    straight = list(batches.run(division, 0, 10))
    assert len({batch.latents.shape for batch in straight}) == 3
    for batch in straight:
        assert len({tuple(row[4:].tolist()) for row in batch.time_ids}) == 1
    for first, second in zip(straight[8:], batches.run(division, 4, 10), strict=True):
        assert equal(first, second)


def test_ranks_have_the_same_bucket_in_every_micro_batch(batches):
    shapes = [[batch.latents.shape for batch in batches.run(Division(rank, 2, 2, 2), 0, 10)] for rank in range(2)]
    assert shapes[0] == shapes[1]
    assert all(one == other for one, other in zip(shapes[0][::2], shapes[0][1::2], strict=True))


@pytest.mark.parametrize("count", [1, 5, 7, 16])
def test_an_evaluation_takes_every_picture_once_in_batches_of_one_bucket(batches, count):
    taken = batches.evaluation_batches(count, 2)
    assert sorted(index for indices in taken for index in indices) == list(range(count))
    assert all(1 <= len(indices) <= 2 for indices in taken)
    for indices in taken:
        batch = batches.evaluation(indices, count)
        assert len({tuple(row[4:].tolist()) for row in batch.time_ids}) == 1


def test_it_trains_and_evaluates_across_buckets(batches, model, group):
    told = Recorder()
    engine: Engine = PlainEngine(model.unet(torch.float32), plain_config(), group)
    loop = Loop(engine, batches, model.noise_scheduler(), Division(0, 1, 2, 1), group, told, lambda: None)
    alone = [loop_loss(loop, batches, index) for index in range(7)]
    assert loop.evaluate("before", 0, 7) == pytest.approx(sum(alone) / 7, rel=1e-4)
    loop.steps(0, 6, save_every=100, save=lambda step: None)
    assert [event["step"] for event in told.named("step")] == [1, 2, 3, 4, 5, 6]
    assert loop.evaluate("after", 6, 7) is not None


def loop_loss(loop, batches, index) -> float:
    loop.engine.evaluating(True)
    with torch.no_grad():
        loss = diffusion_loss(loop.engine, loop.scheduler, batches.evaluation([index], 7))
    loop.engine.evaluating(False)
    return float(loss)


def plain_config() -> dict:
    chosen = DeepSpeedSettings(stage=0, precision="no", offload_optimizer_device="none")
    return to_deepspeed_json(chosen, train_batch_size=2, learning_rate=1e-3, warmup_steps=1, total_steps=6)
