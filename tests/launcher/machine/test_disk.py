"""Disks: what is free where a folder will lie, and why it could not be written."""

import os
import tempfile
from pathlib import Path

import pytest

from launcher.machine.disk import free_bytes, nearest_existing, same_filesystem, why_not_writable


def test_the_nearest_folder_is_the_closest_that_is_there(tmp_path):
    (tmp_path / "a").mkdir()
    assert nearest_existing(tmp_path / "a") == tmp_path / "a"
    assert nearest_existing(tmp_path / "a/b/c") == tmp_path / "a"
    assert nearest_existing(tmp_path / ("x" * 300) / "b") == tmp_path


def test_what_is_free_is_known_before_the_folder_is_there(tmp_path):
    status = os.statvfs(tmp_path)
    assert free_bytes(tmp_path / "not/yet") == pytest.approx(status.f_bavail * status.f_frsize, rel=0.05)


def test_a_folder_can_be_written_and_so_can_one_that_is_not_there(tmp_path):
    assert why_not_writable(tmp_path) is None
    assert why_not_writable(tmp_path / "not/yet") is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder_to_write_in(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below"):
        assert why_not_writable(path) == f"{tmp_path}/file is a file"


def test_a_folder_of_the_kernels_cannot_be_written_even_by_root():
    assert why_not_writable(Path("/proc/runs")).startswith("/proc cannot be written")


def test_a_folder_of_somebody_else_cannot_be_written(guarded):
    shut = guarded.path / "shut"
    shut.mkdir(mode=0o555)
    hidden = guarded.path / "hidden"
    (hidden / "inside").mkdir(parents=True)
    hidden.chmod(0)
    with guarded.ordinary_user():
        assert why_not_writable(shut / "run") == f"{shut} cannot be written by this user"
        assert why_not_writable(hidden / "inside") == f"{hidden} cannot be written by this user"
        assert free_bytes(hidden / "inside") > 0


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second filesystem in /dev/shm")
def test_two_places_share_a_filesystem_or_not(tmp_path):
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        assert same_filesystem(tmp_path / "a", tmp_path / "b/c")
        assert not same_filesystem(tmp_path / "a", Path(other) / "b")
