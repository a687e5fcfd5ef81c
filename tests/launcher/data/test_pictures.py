"""The data set as files: what is found, in which order, and every fault by name."""

import os
import struct
import zlib
from dataclasses import astuple
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.data import scan
from harness.fake_model import write_pictures
from launcher.data.dataset import NAMED
from launcher.data.files import SUFFIXES, count
from launcher.data.headers import EXIF_ORIENTATION
from launcher.errors import ExitCode, InvalidInputError


def add(folder, name, size=(64, 64), caption="a cat", **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


def faults(folder, resolution=64) -> list[str]:
    """The lines of the refusal, without the one that names the folder."""
    with pytest.raises(InvalidInputError) as refused:
        scan(folder, resolution)
    assert refused.value.exit_code is ExitCode.USAGE
    return [line.strip() for line in str(refused.value).splitlines()[1:]]


def found(folder, resolution=64) -> list[str]:
    return [str(picture.path.relative_to(folder)) for picture in scan(folder, resolution)]


# what is found


def test_a_picture_has_its_caption_and_its_size(tmp_path):
    path = add(tmp_path, "a.png", size=(80, 64), caption="  a red bear\n")
    assert [astuple(picture) for picture in scan(tmp_path, 64)] == [
        (path, "a red bear", 80, 64, (64, 64), ("", 0, 1.0))
    ]


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_every_suffix_is_found_in_either_case(tmp_path, suffix, case):
    add(tmp_path, f"a{case(suffix)}")
    assert found(tmp_path) == [f"a{case(suffix)}"]
    assert count(tmp_path) == 1


def test_pictures_are_sorted_by_path_whatever_the_order_they_were_made_in(tmp_path):
    names = ["z.png", "b/2.png", "b/10.png", "a.png", "b-1.png", "b/c/0.png"]
    for name in names:
        add(tmp_path, name)
    assert found(tmp_path) == ["a.png", "b/10.png", "b/2.png", "b/c/0.png", "b-1.png", "z.png"]
    assert count(tmp_path) == len(names)


def test_other_files_and_hidden_files_and_folders_are_passed_over(tmp_path):
    add(tmp_path, "a.png")
    add(tmp_path, "._a.png", caption=None)
    add(tmp_path, ".trash/b.png", caption=None)
    add(tmp_path, "c/.ipynb_checkpoints/a-checkpoint.png", caption=None)
    (tmp_path / ".hidden.txt").write_text("no caption")
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "c/movie.mp4").write_bytes(b"x")
    assert found(tmp_path) == ["a.png"]
    assert count(tmp_path) == 1


def test_a_name_with_dots_has_its_caption_under_the_same_name(tmp_path):
    add(tmp_path, "cat.v1.png", caption="one")
    add(tmp_path, "cat.v2.png", caption="two")
    assert [picture.caption for picture in scan(tmp_path, 64)] == ["one", "two"]


def test_pictures_of_one_name_share_a_caption(tmp_path):
    add(tmp_path, "a.png", caption="both")
    add(tmp_path, "a.jpg", caption=None)
    assert [picture.caption for picture in scan(tmp_path, 64)] == ["both", "both"]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbfein B\xc3\xa4r\r\n", "ein Bär".encode()])
def test_a_caption_is_utf_8_with_a_byte_order_mark_or_without(tmp_path, content):
    add(tmp_path, "a.png").with_suffix(".txt").write_bytes(content)
    assert scan(tmp_path, 64)[0].caption == "ein Bär"


def test_an_empty_caption_is_a_caption(tmp_path):
    add(tmp_path, "a.png", caption=" \n")
    assert scan(tmp_path, 64)[0].caption == ""


@pytest.mark.parametrize(
    ("orientation", "size"),
    [(None, (96, 64)), (1, (96, 64)), (3, (96, 64)), (5, (64, 96)), (6, (64, 96)), (8, (64, 96)), (9, (96, 64))],
)
def test_the_size_is_as_a_viewer_shows_it(tmp_path, orientation, size):
    exif = Image.Exif()
    if orientation:
        exif[EXIF_ORIENTATION] = orientation
    add(tmp_path, "a.jpg", size=(96, 64), exif=exif)
    (picture,) = scan(tmp_path, 64)
    assert (picture.width, picture.height) == size


def test_a_linked_picture_and_a_linked_folder_are_found(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "pictures"
    target = add(elsewhere, "b/b.png")
    folder.mkdir()
    (folder / "a.png").symlink_to(target)
    (folder / "a.txt").write_text("linked")
    (folder / "set").symlink_to(elsewhere / "b")
    assert found(folder) == ["a.png", "set/b.png"]
    assert count(folder) == 2


def test_links_in_a_circle_end(tmp_path):
    add(tmp_path, "a/a.png")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert found(tmp_path) == ["a/a.png"]
    assert count(tmp_path) == 1


# faults


def test_a_folder_that_is_not_there_is_named_with_its_question(tmp_path):
    with pytest.raises(InvalidInputError, match=r"/cats is not a folder; training\.instance_data_dir names"):
        scan(tmp_path / "cats", 64)
    assert count(tmp_path / "cats") == 0


def test_a_file_or_a_name_that_is_too_long_is_no_folder(tmp_path):
    (tmp_path / "a.png").touch()
    for path in (tmp_path / "a.png", tmp_path / ("x" * 300)):
        with pytest.raises(InvalidInputError, match="is not a folder"):
            scan(path, 64)


def test_an_empty_folder_says_what_belongs_there(tmp_path):
    (tmp_path / "lone.md").touch()
    with pytest.raises(InvalidInputError, match=r"has no pictures \(.*\.png.*\); put them there, each with its cap"):
        scan(tmp_path, 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty (0 bytes)"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "cannot be read as a picture"),
        (b"GIF89a", "cannot be read as a picture"),
        (b"hello", "cannot be read as a picture"),
        (b"\xff\xd8\xff\xe0", "cannot be read as a picture"),
        (b"BM" + bytes(40), "cannot be read as a picture"),
        (b"DDS \x7c\0\0\0" + bytes(120), "cannot be read as a picture"),
    ],
)
def test_what_is_no_picture_is_named_with_what_to_do(tmp_path, content, message):
    path = add(tmp_path, "a.png")
    path.write_bytes(content)
    (fault,) = faults(tmp_path)
    assert fault.startswith(f"{path}: {message}")
    assert fault.endswith("replace or remove it")


def test_a_picture_that_would_fill_the_memory_is_refused_by_its_header(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = add(tmp_path, "a.png")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    (fault,) = faults(tmp_path)
    assert "decompression bomb" in fault


@pytest.mark.parametrize(("size", "shown"), [((63, 900), "63x900"), ((900, 63), "900x63")])
def test_a_picture_smaller_than_the_target_is_named_with_both_sizes(tmp_path, size, shown):
    path = add(tmp_path, "a.png", size=size)
    assert faults(tmp_path) == [
        f"{path}: {shown} is smaller than the resolution of 64; use larger pictures, lower training.resolution, or "
        "leave such pictures out with training.minimum_image_size"
    ]
    assert scan(tmp_path, 63)


def test_a_picture_without_a_caption_says_where_to_write_one(tmp_path):
    path = add(tmp_path, "a.b.png", caption=None)
    assert faults(tmp_path) == [f"{path}: has no caption; write one into a.b.txt beside it"]


def test_a_caption_without_a_picture_is_named(tmp_path):
    add(tmp_path, "a.png")
    lone = tmp_path / "b.txt"
    lone.write_text("gone")
    assert faults(tmp_path) == [f"{lone}: a caption without a picture; add the picture or remove the caption"]
    lone.with_suffix(".gif").touch()
    assert faults(tmp_path) == [
        f"{lone}: its picture b.gif is of a kind that is not read; save it as one of .bmp, .jpeg, .jpg, .png, .tif, "
        ".tiff, .webp, or remove both"
    ]


def test_a_caption_of_another_encoding_is_named(tmp_path):
    path = add(tmp_path, "a.png")
    path.with_suffix(".txt").write_bytes("ein Bär".encode("latin-1"))
    assert faults(tmp_path) == [f"{path}: its caption a.txt is not UTF-8 text; save it as UTF-8"]


def test_a_caption_that_is_a_folder_is_named(tmp_path):
    path = add(tmp_path, "a.png", caption=None)
    path.with_suffix(".txt").mkdir()
    assert faults(tmp_path) == [f"{path}: its caption a.txt cannot be read (Is a directory); replace it"]


def test_links_that_lead_nowhere_and_pipes_are_named(tmp_path):
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert faults(tmp_path) == [
        f"{tmp_path}/gone.png: cannot be read (No such file or directory); replace or remove it",
        f"{tmp_path}/loop.png: cannot be read (Too many levels of symbolic links); replace or remove it",
        f"{tmp_path}/pipe.png: is no file; remove it",
    ]


def test_what_may_not_be_read_is_named(guarded):
    folder = guarded.path / "pictures"
    add(folder, "a.png")
    locked, caption = add(folder, "b.png"), add(folder, "c.png")
    add(folder, "shut/d.png")
    locked.chmod(0)
    caption.with_suffix(".txt").chmod(0)
    (folder / "shut").chmod(0)
    with guarded.ordinary_user():
        told = faults(folder)
    assert told == [
        f"{folder}/shut: the folder cannot be read (Permission denied); change its permissions",
        f"{locked}: cannot be read as a picture ([Errno 13] Permission denied: '{locked}'); replace or remove it",
        f"{caption}: its caption c.txt cannot be read (Permission denied); replace it",
    ]


def test_a_folder_in_one_that_may_not_be_entered_is_no_folder(guarded):
    folder = write_pictures(guarded.path / "shut/pictures")
    folder.parent.chmod(0)
    with guarded.ordinary_user(), pytest.raises(InvalidInputError, match="is not a folder"):
        scan(folder, 64)


@pytest.mark.parametrize(("bad", "more"), [(NAMED, None), (NAMED + 1, 1), (NAMED + 32, 32)])
def test_twenty_faults_are_listed_and_the_rest_is_counted(tmp_path, bad, more):
    add(tmp_path, "good.png")
    for number in range(bad):
        (tmp_path / f"{number:03}.png").touch()
    told = faults(tmp_path)
    assert [line.split(": ")[0] for line in told[:NAMED]] == [f"{tmp_path}/{n:03}.png" for n in range(NAMED)]
    assert told[NAMED:] == ([] if more is None else [f"and {more} more"])


def test_all_kinds_of_faults_are_told_at_once(tmp_path):
    add(tmp_path, "small.png", size=(8, 8))
    (tmp_path / "empty.png").touch()
    (tmp_path / "lone.txt").touch()
    assert [line.split(": ")[0] for line in faults(tmp_path)] == [
        f"{tmp_path}/{name}" for name in ("lone.txt", "empty.png", "small.png")
    ]


def encoded(kind: str) -> bytes:
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    buffer = BytesIO()
    Image.new("RGB", (24, 16), (200, 30, 90)).save(buffer, kind, **({"exif": exif} if kind != "BMP" else {}))
    return buffer.getvalue()


WHOLE = [encoded(kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF")]


@given(
    whole=st.sampled_from(WHOLE),
    changes=st.dictionaries(st.integers(0, 120), st.integers(0, 255), max_size=6),
    kept=st.integers(0, 2000),
)
@settings(max_examples=150, deadline=None)
def test_any_damage_is_a_fault_or_no_matter(tmp_path_factory, whole, changes, kept):
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    content = bytearray(whole)
    for place, byte in changes.items():
        if place < len(content):
            content[place] = byte
    (folder / "a.png").write_bytes(content[:kept])
    (folder / "a.txt").write_text("x")
    try:
        assert len(scan(folder, 1)) == 1
    except InvalidInputError as error:
        assert "a.png: " in str(error)
