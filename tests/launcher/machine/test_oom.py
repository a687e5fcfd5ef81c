"""Who was killed for memory, and by whose word: counters and the kernel's log."""

import os

import psutil
import pytest

from launcher.machine.host import oom_kills
from launcher.machine.kernel_log import kernel_log


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "vmstat").write_text("nr_free_pages 12\noom_kill 7\n")

    def counted(own: str, **files: str) -> int | None:
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return oom_kills(tmp_path / "cgroup", tmp_path / "own", tmp_path / "vmstat")

    return counted


EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"


def test_a_cgroup_counts_its_own(machine):
    assert machine("0::/job/7\n", **{"job/7/memory.events": EVENTS}) == 2


def test_a_container_sees_its_cgroup_as_the_root(machine):
    assert machine("0::/docker/abc\n", **{"memory.events": EVENTS}) == 2


def test_version_1_counts_too(machine):
    control = {"memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"}
    assert machine("4:memory:/job\n2:cpu,cpuacct:/\n0::/\n", **control) == 5


def test_else_the_machine_does(machine):
    assert machine("0::/\n") == 7
    assert isinstance(oom_kills(), int)


RECORDS = (
    "6,1,1000000,-;usb 1-1: new device\n",
    "3,2,90000000,-;Out of memory: Killed process 12 (python) total-vm:9kB\n SUBSYSTEM=memory\n",
    "4,3,91000000,-;NVRM: Xid (PCI:0000:03:00): 79, pid=12, GPU has fallen off the bus.\n",
)


def test_the_kernels_log_is_read_record_by_record_since_a_time(tmp_path, monkeypatch):
    """The device gives one record for each reading; a pipe in its place is read in the same way."""
    records = [record.encode() for record in RECORDS] * 2

    def read(handle: int, size: int) -> bytes:
        if not records:
            raise BlockingIOError
        return records.pop(0)

    monkeypatch.setattr(os, "read", read)
    (tmp_path / "kmsg").touch()
    lines = kernel_log(psutil.boot_time() + 60, tmp_path / "kmsg")
    assert lines == [record.split(";")[1].splitlines()[0] for record in RECORDS[1:]] * 2


def test_where_it_may_not_be_read_there_is_none(tmp_path):
    assert kernel_log(0, tmp_path / "no such device") == []
    assert isinstance(kernel_log(0), list)
