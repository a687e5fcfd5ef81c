"""Aspect buckets: which there are, which one takes a picture, and which pictures none takes."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from harness.data import scan
from launcher.config.training import DataSettings, PreparationSettings, TrainingSettings
from launcher.data.buckets import MAXIMUM_ASPECT, Bucketing, Size
from launcher.data.dataset import find
from launcher.data.draws import buckets_of, oversubscribed, rows, steps_per_epoch, table
from launcher.data.pictures import Picture, Source
from launcher.errors import InvalidInputError

SDXL = """512x2048 576x1792 640x1600 704x1472 768x1344 832x1216 896x1152 960x1088 1024x1024
1088x960 1152x896 1216x832 1344x768 1472x704 1600x640 1792x576 2048x512"""

some_bucketing = st.builds(
    Bucketing,
    resolution=st.integers(16, 2048),
    square=st.booleans(),
    shorter_side=st.booleans(),
    alignment=st.sampled_from([8, 16, 32, 64]),
    maximum_aspect=st.sampled_from([1.0, 2.0, MAXIMUM_ASPECT]),
)
side = st.integers(1, 20_000)


def add(folder, name, size):
    Image.new("RGB", size).save(folder / f"{name}.png")
    (folder / f"{name}.txt").write_text(name)


def training(folder, resolution=32, **preparation) -> TrainingSettings:
    return TrainingSettings(
        data=DataSettings(instance_data_dir=str(folder), resolution=resolution),
        preparation=PreparationSettings(**{"aspect_bucket_alignment": 8, **preparation}),
    )


# which there are


def test_at_1024_they_are_sdxls_own():
    assert " ".join(map(str, Bucketing(1024).sizes())) == " ".join(SDXL.split())


def test_three_quarters_of_a_megapixel():
    sizes = Bucketing(867).sizes()
    assert Size(832, 896) in sizes
    assert Size(768, 960) in sizes


@given(some_bucketing)
def test_they_are_aligned_and_no_larger_than_the_square(bucketing):
    sizes = bucketing.sizes()
    assert list(sizes) == sorted(set(sizes), key=lambda size: size.aspect)
    resolution, step = bucketing.resolution, bucketing.alignment
    if bucketing.square or resolution < step:
        assert sizes == ((resolution, resolution),)
        return
    aligned = resolution // step * step
    for size in sizes:
        assert size.width % step == size.height % step == 0
        assert max(size) <= bucketing.maximum_aspect * min(size)
        assert Size(size.height, size.width) in sizes
        if bucketing.shorter_side:
            assert min(size) == aligned
        else:
            assert size.pixels <= resolution**2
            assert size.pixels > resolution**2 - step * min(size) or sizes == ((aligned, aligned),)
    assert bucketing.largest == max(size.pixels for size in sizes)


@given(some_bucketing, side, side)
def test_a_picture_goes_to_the_nearest_aspect(bucketing, width, height):
    def distance(size: Size) -> float:
        return abs(math.log(size.aspect) - math.log(width / height))

    bucket = bucketing.bucket(width, height)
    assert bucket in bucketing.sizes()
    assert distance(bucket) == pytest.approx(min(map(distance, bucketing.sizes())), abs=1e-12)
    assume(width != height)
    turned = bucketing.bucket(height, width)
    assert distance(bucket) == pytest.approx(abs(math.log(turned.aspect) - math.log(height / width)), abs=1e-12)


# which pictures are taken


def test_every_picture_is_in_the_bucket_of_its_aspect(tmp_path):
    shapes = {"square": (64, 64), "wide": (90, 54), "tall": (40, 120), "turned": (120, 40)}
    for name, size in shapes.items():
        add(tmp_path, name, size)
    found = {picture.caption: str(picture.bucket) for picture in find(training(tmp_path)).pictures}
    assert found == {"square": "32x32", "wide": "40x24", "tall": "16x64", "turned": "64x16"}
    assert {picture.bucket for picture in scan(tmp_path, 32, crop=True)} == {(32, 32)}
    assert {picture.bucket for picture in scan(tmp_path, 32)} == {(32, 32)}  # below the alignment of 64


def test_a_picture_smaller_than_its_bucket_is_named_with_both(tmp_path):
    add(tmp_path, "wide", (39, 24))
    with pytest.raises(InvalidInputError, match=r"wide\.png: 39x24 is smaller than the bucket of 40x24; use larger"):
        find(training(tmp_path))


def test_panoramas_and_points_are_refused_by_name_and_left_out_by_rule(tmp_path):
    add(tmp_path, "good", (64, 64))
    add(tmp_path, "panorama", (20_000, 100))
    add(tmp_path, "point", (1, 1))
    with pytest.raises(InvalidInputError) as refused:
        find(training(tmp_path))
    assert "panorama.png: 20000x100 is more elongated than 4 to 1; crop it, or leave such pictures" in str(
        refused.value
    )
    assert "point.png: 1x1 is smaller than the resolution of 32" in str(refused.value)
    dataset = find(training(tmp_path, minimum_image_size=16, maximum_aspect_ratio=3.0))
    assert [picture.caption for picture in dataset.pictures] == ["good"]
    assert [line.split(": ")[1] for line in dataset.left_out] == [
        "20000x100 is more elongated than training.maximum_aspect_ratio of 3",
        "1x1 is below training.minimum_image_size of 16",
    ]


def test_with_a_minimum_size_others_are_enlarged(tmp_path):
    add(tmp_path, "small", (20, 20))
    assert len(find(training(tmp_path, minimum_image_size=20)).pictures) == 1


def test_where_all_are_left_out_nothing_is_trained(tmp_path):
    add(tmp_path, "point", (1, 1))
    with pytest.raises(InvalidInputError, match=r"no picture of .* is left to train on:\n  .*point\.png: 1x1 is below"):
        find(training(tmp_path, minimum_image_size=8))


# what the table says


def pictures(**counts) -> list[Picture]:
    made = []
    for name, (count, size, source) in counts.items():
        made += [Picture(f"{name}-{n}", "", *size, Size(*size), source) for n in range(count)]
    return made


def test_the_table_counts_pictures_and_steps():
    often = Source("often", repeats=2)
    half = Source("half", probability=0.5)
    buckets = buckets_of(
        pictures(a=(10, (32, 32), often), b=(6, (32, 32), half), c=(3, (16, 64), often), d=(4, (64, 16), half))
    )
    assert [(str(bucket.size), bucket.pictures, float(bucket.rate)) for bucket in buckets] == [
        ("16x64", 3, 9),
        ("32x32", 16, 33),
        ("64x16", 4, 2),
    ]
    assert steps_per_epoch(buckets, 4) == 44 / 4
    told = rows(buckets, 4)
    assert told[0] == {
        "size": "16x64", "pictures": 3, "drawn_per_epoch": 9.0, "steps_per_epoch": 2.25, "oversubscribed": True
    }  # fmt: skip
    assert oversubscribed(buckets, 4) == (
        "1 of 3 buckets has fewer pictures than the 4 that a step takes (16x64 has 3)"
    )
    assert oversubscribed(buckets, 3) == ""
    lines = table(buckets, 4).splitlines()
    assert lines[0] == "23 pictures in 3 buckets; a step takes 4 of one bucket, an epoch has 11.0 steps"
    assert lines[2].split() == ["16x64", "0.25", "3", "9.0", "2.2"]
    assert lines[-2:] == ["  often: 13 pictures, 39.0 drawn an epoch", "  half: 10 pictures, 5.0 drawn an epoch"]


def test_many_buckets_are_summed_up():
    many = pictures(**{f"n{n}": (n, (8 * n, 8), Source("")) for n in range(1, 31)})
    lines = table(buckets_of(many), 2).splitlines()
    assert len(lines) == 2 + 20 + 1
    assert lines[2].split()[2] == "30"
    assert lines[-1].strip() == f"and 10 more with {sum(range(1, 11))} pictures"
