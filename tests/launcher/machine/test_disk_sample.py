"""Disks look after look: this machine's own, and drives described in files."""

import os
import shutil
from pathlib import Path

import pytest

from launcher.machine.disk_sample import DiskReader
from launcher.machine.sample import Unknown

MIB = 2**20


class Drive:
    """What the kernel counts for the drive below a folder, in files of our own."""

    def __init__(self, tmp_path: Path) -> None:
        number = (tmp_path).stat().st_dev
        self.sys = tmp_path / "sys"
        device = self.sys / "dev/block" / f"{os.major(number)}:{os.minor(number)}"
        device.mkdir(parents=True)
        self.stat = device / "stat"
        self.counts(0, 0)

    def counts(self, read_mib: int, written_mib: int) -> None:
        read, written = read_mib * MIB // 512, written_mib * MIB // 512
        self.stat.write_text(f"  9 0 {read} 5 9 0 {written} 0 0 0 0 0 0 0 0 0 0\n")


@pytest.fixture
def drive(tmp_path):
    return Drive(tmp_path)


def test_space_is_told_of_a_folder_that_is_not_there_yet(tmp_path):
    (disk,) = DiskReader([tmp_path / "not/yet"])()
    usage = shutil.disk_usage(tmp_path)
    assert disk.folder == tmp_path / "not/yet"
    assert disk.total_mib == usage.total // MIB
    assert disk.free_mib == pytest.approx(usage.free // MIB, rel=0.05)


def test_rates_are_what_went_between_two_looks(tmp_path, drive):
    now = [100.0]
    read = DiskReader([tmp_path / "a", tmp_path / "b"], clock=lambda: now[0], sys=drive.sys)
    first, _ = read()
    assert first.read_mib_s == first.written_mib_s == Unknown("known from the second look on")
    now[0] = 102.0
    drive.counts(300, 50)
    assert [(disk.read_mib_s, disk.written_mib_s) for disk in read()] == [(150.0, 25.0)] * 2
    now[0] = 103.0
    assert [(disk.read_mib_s, disk.written_mib_s) for disk in read()] == [(0.0, 0.0)] * 2


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("tmpfs", "it is in host memory (tmpfs)"),
        ("overlay", "it is inside a container's own filesystem (overlay)"),
        ("nfs4", "it is on a network filesystem (nfs4)"),
        ("fuse.thing", "no drive is found below it (fuse.thing)"),
    ],
)
def test_where_no_drive_counts_it_is_said_why(tmp_path, kind, why):
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"22 1 0:30 / / rw - {kind} {kind} rw\n")
    (disk,) = DiskReader([tmp_path], mountinfo=mountinfo, sys=tmp_path / "none")()
    assert disk.read_mib_s == disk.written_mib_s == Unknown(why)
    assert disk.total_mib > 0


def test_a_disk_that_does_not_answer_is_left_out(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    usage = shutil.disk_usage

    def stale(path):
        if path == gone:
            raise OSError(116, "Stale file handle")
        return usage(path)

    monkeypatch.setattr(shutil, "disk_usage", stale)
    assert [disk.folder for disk in DiskReader([gone, tmp_path])()] == [tmp_path]
