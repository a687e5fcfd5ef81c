"""Where NVMe offload may go: by what is mounted, what the kernel says of the drive, and a read as DeepSpeed's."""

import os
from pathlib import Path

import pytest

from harness.drives import wants_512
from launcher.machine import nvme_drive
from launcher.machine.nvme_drive import why_no_nvme_offload

ROOT = "27 1 259:2 / / rw,relatime - ext4 /dev/nvme0n1p2 rw\n"


@pytest.fixture
def mounts(tmp_path):
    """Writes what is mounted where: the root on a drive, and more."""

    def write(*more: str) -> Path:
        path = tmp_path / "mountinfo"
        path.write_text(ROOT + "".join(f"{line}\n" for line in more))
        return path

    return write


@pytest.fixture
def drives(tmp_path, monkeypatch):
    """A /sys in which every folder lies on the first drive's partition; each is made of the next, and wants so much."""
    monkeypatch.setattr(os, "major", lambda number: 259)
    monkeypatch.setattr(os, "minor", lambda number: 2)

    def make(**masks: int | None) -> Path:
        above = None
        for name, mask in masks.items():
            drive = tmp_path / "sys/devices" / name
            (drive / "queue").mkdir(parents=True)
            if mask is not None:
                (drive / "queue/dma_alignment").write_text(f"{mask}\n")
            partition = drive / f"{name}p2"
            partition.mkdir()
            (partition / "partition").write_text("2\n")
            place = tmp_path / "sys/dev/block/259:2" if above is None else above / "slaves" / partition.name
            place.parent.mkdir(parents=True)
            place.symlink_to(partition)
            above = drive
        return tmp_path / "sys"

    return make


# what is mounted


@pytest.mark.parametrize(
    ("mounted", "reason"),
    [
        ("tmpfs tmpfs rw", "it is in host memory (tmpfs), which offloading there would fill instead of sparing it"),
        ("ramfs none rw", "it is in host memory (ramfs), which offloading there would fill instead of sparing it"),
        (
            "overlay overlay rw,lowerdir=/a,upperdir=/b",
            "it is inside a container's own filesystem (overlay), whose layers lie between DeepSpeed and the drive; "
            "mount a folder of the drive into the container",
        ),
        *(
            (
                f"{kind} {source} rw",
                f"it is on a network filesystem ({kind}), over which every step would move all optimizer states",
            )
            for kind, source in (
                ("nfs4", "server:/home"),
                ("cifs", "//server/share"),
                ("9p", "host"),
                ("ceph", "10.0.0.1:6789:/"),
                ("lustre", "10.0.0.1@tcp:/scratch"),
                ("fuse.sshfs", "user@server:"),
            )
        ),
        (
            "fuse.mergerfs a:b rw",
            "its filesystem (fuse.mergerfs) is a program that answers in the drive's place",
        ),
    ],
)
def test_a_filesystem_that_is_no_drive_is_refused_by_name(in_memory, mounts, mounted, reason):
    mountinfo = mounts(f"40 27 0:50 / {in_memory} rw shared:3 - {mounted}")
    assert why_no_nvme_offload(in_memory / "not/yet", mountinfo) == reason


def test_a_filesystem_without_a_drive_is_refused(in_memory, mounts):
    mountinfo = mounts(f"40 27 0:50 / {in_memory} rw - zfs tank/fast rw")
    assert why_no_nvme_offload(in_memory, mountinfo) == (
        "no drive is found behind it (zfs on tank/fast), so how it wants memory aligned is not known"
    )


def test_the_deepest_mount_counts_and_of_two_on_one_place_the_last(in_memory, mounts, drives):
    sys = drives(nvme0n1=3)
    inside = in_memory / "a drive"
    inside.mkdir()
    escaped = str(inside).replace(" ", r"\040")
    lines = [
        f"41 40 259:3 / {escaped} rw - ext4 /dev/nvme0n1p3 rw",
        f"40 27 0:50 / {in_memory} rw - tmpfs tmpfs rw",
        f"42 27 0:51 / {in_memory}/a rw - nfs server:/ rw",
    ]
    assert why_no_nvme_offload(inside / "swap", mounts(*lines), sys) is None
    hidden = [*lines, f"43 40 0:52 / {escaped} rw - overlay overlay rw"]
    assert "(overlay)" in why_no_nvme_offload(inside / "swap", mounts(*hidden), sys)


def test_what_is_mounted_here_is_read_where_nothing_else_is_given(in_memory):
    assert "in host memory (tmpfs)" in why_no_nvme_offload(in_memory)


# what the kernel says of the drive


def test_a_drive_that_takes_what_deepspeed_gives_it_may_be_used(in_memory, mounts, drives):
    assert why_no_nvme_offload(in_memory / "not/yet", mounts(), drives(nvme0n1=3)) is None
    assert list(in_memory.iterdir()) == []


def test_a_drive_that_wants_512_bytes_is_refused(in_memory, mounts, drives):
    assert why_no_nvme_offload(in_memory, mounts(), drives(vda=511)) == (
        "the drive vda wants memory aligned to 512 bytes, and DeepSpeed 0.19.8 aligns it to 4: gradients would be "
        "wrong without a word"
    )


def test_a_stack_is_as_good_as_its_worst_drive(in_memory, mounts, drives):
    reason = why_no_nvme_offload(in_memory, mounts(), drives(**{"dm-0": 3, "md127": 3, "sda": 511}))
    assert reason.startswith("the drive sda wants memory aligned to 512 bytes")


def test_a_stack_of_good_drives_is_good(in_memory, mounts, drives):
    assert why_no_nvme_offload(in_memory, mounts(), drives(**{"dm-0": 3, "md127": 3, "nvme1n1": 3})) is None


def test_a_kernel_that_does_not_tell_is_not_trusted(in_memory, mounts, drives):
    reason = why_no_nvme_offload(in_memory, mounts(), drives(nvme0n1=None))
    assert reason == "this kernel does not tell how the drive nvme0n1 wants memory aligned"


def test_btrfs_names_its_drive_by_its_file(in_memory, mounts, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "major", lambda number: 0)
    plain = tmp_path / "no-device"
    plain.touch()
    for source in (plain, tmp_path / "gone"):
        mountinfo = mounts(f"40 27 0:50 /sub {in_memory} rw - btrfs {source} rw")
        assert why_no_nvme_offload(in_memory, mountinfo).startswith(f"no drive is found behind it (btrfs on {source})")


# the read


def test_the_read_finds_a_drive_that_sysfs_tells_better_of(tmp_path, mounts, drives):
    corrupts = wants_512(tmp_path)
    reason = why_no_nvme_offload(tmp_path, mounts(), drives(nvme0n1=3))
    if corrupts:
        assert reason == ("direct input and output as DeepSpeed does it, aligned to 4 bytes, fails (Invalid argument)")


def test_a_real_drive_of_512_is_refused(tmp_path):
    reason = why_no_nvme_offload(tmp_path / "not/yet")
    if wants_512(tmp_path):
        assert "wants memory aligned to 512 bytes" in reason


def test_a_read_that_leaves_the_buffer_as_it_was_is_noticed(in_memory, mounts, drives, monkeypatch):
    monkeypatch.setattr(os, "preadv", lambda file, buffers, offset: sum(map(len, buffers)))
    assert why_no_nvme_offload(in_memory, mounts(), drives(nvme0n1=3)) == (
        "a direct read into memory aligned to 4 bytes returns something else than was written"
    )
    assert list(in_memory.iterdir()) == []


def test_a_filesystem_without_direct_reads_is_refused(in_memory, mounts, drives, monkeypatch):
    opened = os.open

    def refuse(path, flags, *more, **named):
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return opened(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refuse)
    reason = why_no_nvme_offload(in_memory, mounts(), drives(nvme0n1=3))
    assert reason == "its filesystem refuses direct input and output (Invalid argument)"
    assert list(in_memory.iterdir()) == []


def test_an_ordinary_user_is_told_the_same(guarded, in_memory, tmp_path):
    in_memory.chmod(0o777)
    with guarded.ordinary_user():
        assert nvme_drive._why_not_read(in_memory) is None
        assert "in host memory (tmpfs)" in why_no_nvme_offload(in_memory)
        assert why_no_nvme_offload(guarded.path / "swap").endswith("cannot be written by this user")
