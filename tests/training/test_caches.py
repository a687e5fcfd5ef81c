"""Latents and prompt embeddings: computed once, for what they depend on, and from the right pixels."""

import gc
import os
import shutil
import signal
import struct
import zlib

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from harness.data import scan
from harness.recorder import Recorder
from launcher.config.training import DataSettings, TrainingSettings
from launcher.data.buckets import Size
from launcher.data.pictures import Picture, Source
from launcher.errors import CannotRunHereError, InvalidInputError, RunFailedError
from launcher.model_files import read_header
from launcher.train import caches, known
from launcher.train.caches import shards
from launcher.train.models import ModelSource
from launcher.train.pictures import load_pixels

SQUARE = Size(4, 4)
COMPUTED_NOTHING = {"latents_computed": 0, "prompts_computed": 0}


@pytest.fixture
def pictures(assets, tmp_path):
    """Three of the demo's pictures with their captions, to be changed."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in sorted((assets / "pictures").glob("*.png"))[:3]:
        shutil.copy2(path, folder)
        shutil.copy2(path.with_suffix(".txt"), folder)
    return folder


@pytest.fixture
def prepare(model, alone, pictures, tmp_path):
    """Fills the caches and says what it had to compute."""

    def run(source=model, resolution=32, dtype=torch.float32, cache=tmp_path / "cache", told=None, **more):
        told = told or Recorder()
        training = TrainingSettings(data=DataSettings(resolution=resolution, cache_dir=str(cache)))
        dataset = caches.prepare(training, source, scan(pictures, resolution), dtype, alone, told, **more)
        if dataset is None:
            return None, None
        (event,) = told.named("data")
        return dataset, {name: event[name] for name in COMPUTED_NOTHING}

    return run


@pytest.fixture
def changed_model(model, tmp_path):
    """A copy of the model with one component's weights changed."""

    def change(component: str, tensor: str, factor: float = 1.01) -> ModelSource:
        folder = tmp_path / f"{component}-changed"
        shutil.copytree(model.folder, folder, ignore=shutil.ignore_patterns("unet"))
        (path,) = (folder / component).glob("*.safetensors")
        weights = load_file(path)
        (name,) = (name for name in weights if name.endswith(tensor))
        save_file({**weights, name: weights[name] * factor}, path, metadata={"format": "pt"})
        return ModelSource(folder, folder / "vae")

    return change


def test_an_unchanged_run_computes_nothing_and_loads_no_model(prepare):
    first, computed = prepare()
    assert computed == {"latents_computed": 3, "prompts_computed": 3}
    told = Recorder()
    second, computed = prepare(told=told)
    assert computed == COMPUTED_NOTHING
    assert told.phases == ["contents"]
    assert told.named("data")[0]["latents_cached"] == told.named("data")[0]["prompts_cached"] == 3
    for index in range(3):
        one, other = first[index], second[index]
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("mean", "std", "pooled"))


def test_what_changed_is_computed_anew_and_nothing_else(prepare, pictures, changed_model):
    prepare()
    paths = sorted(pictures.glob("*.png"))
    with Image.open(paths[0]) as opened:
        opened.transpose(Image.Transpose.ROTATE_90).save(paths[0])
    assert prepare()[1] == {"latents_computed": 1, "prompts_computed": 0}
    paths[1].with_suffix(".txt").write_text("something else")
    assert prepare()[1] == {"latents_computed": 0, "prompts_computed": 1}
    assert prepare(resolution=16)[1] == {"latents_computed": 3, "prompts_computed": 0}
    assert prepare(dtype=torch.bfloat16)[1] == {"latents_computed": 0, "prompts_computed": 3}
    assert prepare(changed_model("vae", "encoder.conv_in.weight"))[1] == {"latents_computed": 3, "prompts_computed": 0}
    for encoder in ("text_encoder", "text_encoder_2"):
        other = changed_model(encoder, "final_layer_norm.weight")
        assert prepare(other)[1] == {"latents_computed": 0, "prompts_computed": 3}
    assert prepare()[1] == COMPUTED_NOTHING


def test_two_equal_pictures_are_computed_once(prepare, pictures):
    first, second, _ = sorted(pictures.glob("*.png"))
    shutil.copy2(first, second)
    dataset, computed = prepare()
    assert computed == {"latents_computed": 2, "prompts_computed": 3}
    assert torch.equal(dataset[0].mean, dataset[1].mean)


@pytest.mark.parametrize("left", [0, 7, 100, -1])
def test_a_cache_file_that_was_cut_off_is_computed_anew(prepare, tmp_path, left):
    whole, _ = prepare()
    samples = [whole[index] for index in range(3)]
    files = sorted((tmp_path / "cache").rglob("*.safetensors"))
    for path in files:
        path.write_bytes(path.read_bytes()[:left])
    again, computed = prepare()
    assert computed == {"latents_computed": 3, "prompts_computed": 3}
    for index, sample in enumerate(samples):
        assert torch.equal(again[index].mean, sample.mean)
        assert torch.equal(again[index].prompt_embeds, sample.prompt_embeds)


def test_damaged_pictures_are_all_named_at_once_and_the_others_are_kept(prepare, pictures):
    generator = np.random.default_rng(0)
    noise = Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    damaged = []
    for suffix in (".png", ".jpg", ".webp", ".bmp"):
        path = pictures / f"damaged{suffix}"
        noise.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        damaged.append(path)
    (pictures / "damaged.txt").write_text("noise")
    try:
        scan(pictures, 32)
    except InvalidInputError as error:  # some say so by their header
        for path in list(damaged):
            if str(path) in str(error):
                damaged.remove(path)
                path.unlink()
    assert len(damaged) >= 2
    with pytest.raises(InvalidInputError) as caught:
        prepare()
    message = str(caught.value)
    assert "these pictures are damaged; replace or remove them" in message
    assert all(str(path) in message for path in damaged)
    for path in damaged:
        path.unlink()
    (pictures / "damaged.txt").unlink()
    assert prepare()[1]["latents_computed"] == 0


def test_vae_and_text_encoders_are_gone_afterwards(prepare):
    kinds = (AutoencoderKL, CLIPTextModel, CLIPTextModelWithProjection)
    before = {id(thing) for thing in gc.get_objects() if isinstance(thing, kinds)}
    told = Recorder()
    _, computed = prepare(told=told)
    assert told.phases == ["contents", "captions", "latents"]
    assert computed == {"latents_computed": 3, "prompts_computed": 3}
    assert [thing for thing in gc.get_objects() if isinstance(thing, kinds) and id(thing) not in before] == []


@pytest.fixture
def small_shards(monkeypatch):
    """A shard for a handful of latents, so that a few pictures fill several."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 512)


def test_a_full_disk_is_one_message_and_keeps_what_is_cached(prepare, pictures, small_disk, small_shards):
    for number in range(60):
        name = pictures / f"more-{number}"
        Image.new("RGB", (32, 32), (number, 0, 0)).save(name.with_suffix(".png"))
        name.with_suffix(".txt").write_text("a darker red")
    disk = small_disk(160)
    with pytest.raises(CannotRunHereError) as caught:
        prepare(cache=disk / "cache")
    assert str(caught.value) == (
        f"the disk of the cache folder {disk / 'cache'} is full; make room or choose another with "
        "training.cache_dir. What is cached already is kept"
    )
    kept = [path for path in (disk / "cache/latents").rglob("*") if path.is_file()]
    assert kept
    assert all(path.suffix == ".safetensors" for path in kept)
    shutil.copytree(disk / "cache", pictures.parent / "larger")
    _, computed = prepare(cache=pictures.parent / "larger")
    cached = {name.rsplit(".", 1)[0] for path in kept for name in read_header(path)[1] if name != "__metadata__"}
    assert computed == {"latents_computed": 63 - len(cached), "prompts_computed": 0}


def test_a_stop_keeps_what_was_computed(prepare, pictures, small_shards):
    asked = []

    def stopping():
        asked.append(1)
        return len(asked) > 3  # once for the captions, once between, once for the first picture

    assert prepare(stopping=stopping)[0] is None
    _, computed = prepare()
    assert computed == {"latents_computed": 2, "prompts_computed": 0}


def test_a_killed_run_loses_no_more_than_the_shard_under_way(prepare, tmp_path, small_shards):
    asked = []

    def killed():
        asked.append(1)
        if len(asked) == 5:  # before the third picture
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    if (child := os.fork()) == 0:
        prepare(stopping=killed)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    dataset, computed = prepare()
    assert computed == {"latents_computed": 1, "prompts_computed": 0}
    assert all(dataset[index].mean.isfinite().all() for index in range(3))


def test_a_shard_is_written_once_it_is_old(tmp_path):
    now = [0.0]
    with shards.ShardWriter(shards.Shards(tmp_path / "cache/latents"), lambda: now[0]) as writer:
        for seconds, files in ((0, 0), (59, 0), (60, 1), (61, 1), (121, 2)):
            now[0] = float(seconds)
            writer.add(f"key{seconds}", {"mean": torch.zeros(4)})
            assert len(list((tmp_path / "cache/latents").glob("*"))) == files


def test_a_changed_byte_is_found_before_training_and_computed_anew(prepare, tmp_path):
    whole, _ = prepare()
    sample = whole[0]
    for path in (tmp_path / "cache").rglob("*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-3] ^= 0x10
        path.write_bytes(content)
    told = Recorder()
    again, computed = prepare(told=told)
    assert computed == {"latents_computed": 3, "prompts_computed": 3}
    assert len(told.warnings) == 2
    assert all("its content is not what was written" in warning for warning in told.warnings)
    assert torch.equal(again[0].mean, sample.mean)


def test_a_byte_that_changes_unseen_is_found_when_it_is_read_and_computed_at_the_next_start(prepare, tmp_path):
    dataset, _ = prepare()
    (path,) = (tmp_path / "cache/latents").glob("*.safetensors")
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-3] ^= 0x10
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a failing disk would leave it
    assert prepare()[1] == COMPUTED_NOTHING
    with pytest.raises(RunFailedError, match=r"cannot be read now .*; start the run again"):
        [dataset[index] for index in range(3)]
    assert prepare()[1] == {"latents_computed": 3, "prompts_computed": 0}


def test_unchanged_pictures_and_shards_are_not_read_again(prepare, pictures, monkeypatch):
    prepare()
    read = []
    monkeypatch.setattr(known, "_content", lambda path: read.append(path) or "0" * 64)
    monkeypatch.setattr(shards, "_check", lambda path, entries: read.append(path))
    prepare()
    assert read == []
    changed = sorted(pictures.glob("*.png"))[0]
    os.utime(changed, ns=(0, 0))
    prepare()
    assert read == [changed]


def test_many_pictures_share_a_few_files(prepare, tmp_path, pictures):
    for number in range(40):
        Image.new("RGB", (32, 32), (number, 0, 0)).save(pictures / f"more-{number}.png")
        (pictures / f"more-{number}.txt").write_text(f"red {number}")
    dataset, computed = prepare()
    assert computed == {"latents_computed": 43, "prompts_computed": 43}
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 2
    assert len({float(dataset[index].mean.sum()) for index in range(43)}) == 43


def test_a_vae_that_overflows_in_half_precision_gives_finite_latents(prepare, changed_model, pictures):
    overflowing = changed_model("vae", "encoder.conv_in.weight", 1e5)
    vae = AutoencoderKL.from_pretrained(overflowing.vae_folder, torch_dtype=torch.float16)
    pixels = load_pixels(scan(pictures, 32)[0])[None]
    with torch.no_grad():
        assert not vae.encode(pixels.half()).latent_dist.mean.isfinite().all()
    for dtype in (torch.float16, torch.bfloat16):
        dataset, _ = prepare(overflowing, dtype=dtype)
        for index in range(3):
            assert dataset[index].mean.isfinite().all()
            assert dataset[index].std.isfinite().all()
            assert dataset[index].mean.dtype == torch.float32


def test_a_vae_that_overflows_in_any_precision_is_named_with_the_picture(prepare, changed_model, pictures):
    source = changed_model("vae", "encoder.conv_in.weight", float("inf"))
    with pytest.raises(RunFailedError) as caught:
        prepare(source)
    assert str(source.vae_folder) in str(caught.value)
    assert str(sorted(pictures.glob("*.png"))[0]) in str(caught.value)


def pixels_of(path, bucket: Size = SQUARE) -> np.ndarray:
    """(height, width, 3), from 0 to 255."""
    with Image.open(path) as opened:
        width, height = opened.size
        if opened.getexif().get(0x0112, 1) >= 5:
            width, height = height, width
    pixels = load_pixels(Picture(path, "", width, height, bucket, Source("")))
    assert pixels.shape == (3, bucket.height, bucket.width)
    assert pixels.dtype == torch.float32
    return (pixels.permute(1, 2, 0).numpy() + 1) * 127.5


UPRIGHT = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
STORED = {
    # How a picture lies in its file so that a viewer who follows the EXIF orientation shows it upright.
    1: lambda shown: shown,
    2: lambda shown: shown[:, ::-1],
    3: lambda shown: shown[::-1, ::-1],
    4: lambda shown: shown[::-1],
    5: lambda shown: shown.transpose(1, 0, 2),
    6: lambda shown: np.rot90(shown, 1),
    7: lambda shown: np.rot90(shown, 2).transpose(1, 0, 2),
    8: lambda shown: np.rot90(shown, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_followed(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(STORED[orientation](UPRIGHT))
    Image.fromarray(stored).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(pixels_of(tmp_path / "turned.png").round(), UPRIGHT)


def test_the_middle_of_a_long_picture_is_taken(tmp_path):
    picture = np.zeros((4, 12, 3), dtype=np.uint8)
    picture[:, 4:8] = UPRIGHT
    Image.fromarray(picture).save(tmp_path / "wide.png")
    assert np.array_equal(pixels_of(tmp_path / "wide.png").round(), UPRIGHT)


def palette(transparent: bool) -> Image.Image:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    if transparent:
        image.info["transparency"] = 1
    return image


KINDS = {
    "half transparent": (Image.new("RGBA", (4, 4), (200, 100, 0, 128)), "png", (227.4, 177.2, 127.0)),
    "wholly transparent": (Image.new("RGBA", (4, 4), (200, 100, 0, 0)), "png", (255, 255, 255)),
    "transparent grey": (Image.new("LA", (4, 4), (0, 51)), "png", (204, 204, 204)),
    "palette": (palette(False), "png", (200, 100, 50)),
    "palette with a transparent colour": (palette(True), "png", (255, 255, 255)),
    "grey": (Image.new("L", (4, 4), 77), "jpg", (77, 77, 77)),
    "black and white": (Image.new("1", (4, 4), 1), "png", (255, 255, 255)),
    "16-bit grey": (Image.fromarray(np.full((4, 4), 0x8080, dtype=np.uint16)), "png", (128, 128, 128)),
    "16-bit grey TIFF": (Image.fromarray(np.full((4, 4), 0x4040, dtype=np.uint16)), "tif", (64, 64, 64)),
    "CMYK": (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "tif", (255, 0, 0)),
    "CMYK JPEG": (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "jpg", (255, 0, 0)),
}


def png_of_16_bits(path, colour_type: int, *samples: int) -> None:
    """4 x 4 pixels of one colour, 16 bits a sample, which PIL reads and does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + struct.pack(f">{len(samples)}H", *samples) * 4 for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 16, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize(
    ("colour_type", "samples", "colour"),
    [
        (2, (0xC8C8, 0x6464, 0x3232), (200, 100, 50)),
        (6, (0xC8C8, 0x6464, 0, 0x8080), (227.4, 177.2, 127.0)),
        (4, (0, 0x3333), (204, 204, 204)),
    ],
    ids=["RGB", "RGBA", "grey and alpha"],
)
def test_16_bits_of_colour_give_their_true_colours(tmp_path, colour_type, samples, colour):
    png_of_16_bits(tmp_path / "deep.png", colour_type, *samples)
    pixels = pixels_of(tmp_path / "deep.png")
    assert np.allclose(pixels, np.broadcast_to(colour, pixels.shape), atol=1.1)


def test_the_middle_of_a_bucket_is_taken(tmp_path):
    picture = np.zeros((4, 12, 3), dtype=np.uint8)
    picture[:, 2:10] = np.arange(96, dtype=np.uint8).reshape(4, 8, 3)
    Image.fromarray(picture).save(tmp_path / "wide.png")
    assert np.array_equal(pixels_of(tmp_path / "wide.png", Size(8, 4)).round(), picture[:, 2:10])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_picture_gives_its_true_colours(tmp_path, kind):
    image, suffix, colour = KINDS[kind]
    path = tmp_path / f"picture.{suffix}"
    image.save(path)
    pixels = pixels_of(path)
    # A JPEG is off by a little; half a step is rounding.
    assert np.allclose(pixels, np.broadcast_to(colour, pixels.shape), atol=2 if suffix == "jpg" else 0.6)
