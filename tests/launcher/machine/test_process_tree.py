"""Host memory of a run's processes: real ones, whose environment says that they belong to it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.runs import wait_for
from launcher.machine import gpu_processes
from launcher.machine.process_tree import LOOKS, SHARED_EVERY, ProcessTree
from launcher.machine.sample import TreeSample

VARIABLE = "A_RUN_OF_THE_TESTS"
HOLD = """
import mmap, os, sys
shared, own = mmap.mmap(-1, int(sys.argv[1]) << 20), mmap.mmap(-1, int(sys.argv[2]) << 20, mmap.MAP_PRIVATE)
shared.write(bytes(len(shared)))
for _ in range(int(sys.argv[3])):
    if os.fork() == 0:
        shared.seek(0), shared.read()  # maps its pages here too
        break
own.write(b"1" * len(own))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holding():
    """Starts processes that hold MiB in common and each for itself."""
    started = []

    def start(run: str, shared: int, own: int, children: int = 0) -> None:
        command = [sys.executable, "-c", HOLD, str(shared), str(own), str(children)]
        environment = {**os.environ, VARIABLE: run}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        for _ in range(children + 1):
            assert process.stdout.readline() == b"ready\n"

    yield start
    for process in started:
        process.stdin.close()
        process.stdout.close()
        process.wait(30)


def test_processes_are_found_by_their_environment_and_forgotten_when_they_end(holding):
    tree = ProcessTree(VARIABLE, "/runs/mine")
    assert tree().processes == 0
    holding("/runs/mine", 1, 20, children=1)
    holding("/runs/mine-2", 1, 20)
    assert tree().processes == 2
    other = ProcessTree(VARIABLE, "/runs/mine-2")
    assert other().processes == 1


def test_one_that_ends_counts_no_more():
    tree = ProcessTree(VARIABLE, "/runs/ends")
    process = subprocess.Popen(
        [sys.executable, "-c", "input()"], env={**os.environ, VARIABLE: "/runs/ends"}, stdin=subprocess.PIPE
    )
    assert wait_for(lambda: tree().processes) == 1
    process.stdin.close()
    assert wait_for(lambda: tree().processes == 0)  # not even as a zombie, which nobody has waited for
    process.wait()


def test_what_they_share_counts_once(holding):
    now = [0.0]
    tree = ProcessTree(VARIABLE, "/runs/shared", clock=lambda: now[0])
    holding("/runs/shared", shared=200, own=50, children=3)
    found = tree()
    assert found.processes == 4
    assert 400 <= found.resident_mib < 480  # 200 in common, 50 each, and Python
    assert found.pinned_mib == 0


def test_what_they_share_is_looked_at_seldom(holding):
    now, looked = [0.0], []
    tree = ProcessTree(VARIABLE, "/runs/seldom", clock=lambda: now[0])
    proportional = tree._proportional
    tree._proportional = lambda pid: looked.append(pid) or proportional(pid)
    holding("/runs/seldom", shared=1, own=10)
    for second in range(int(SHARED_EVERY)):
        now[0] = second
        tree()
    assert len(looked) == 1
    now[0] = SHARED_EVERY
    tree()
    assert len(looked) == 2


def test_memory_that_is_locked_is_pinned(tmp_path):
    process = tmp_path / "4711"
    process.mkdir()
    (process / "environ").write_text(f"HOME=/\0{VARIABLE}=/runs/locks\0LANG=C\0")
    status = "Name:\tpython\nVmLck:\t  4096 kB\nVmPin:\t  2048 kB\nVmRSS:\t  204800 kB\nThreads:\t1\n"
    (process / "status").write_text(status)
    assert ProcessTree(VARIABLE, "/runs/locks", proc=tmp_path)() == TreeSample(1, 200, 6)


def test_what_cuda_allocates_pinned_is_pinned(tmp_path, monkeypatch):
    code = "import mmap, sys; held = mmap.mmap(-1, 64 << 20); print(1, flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, env={VARIABLE: "/runs/cuda"})
    try:
        holder.stdout.readline()
        tree = ProcessTree(VARIABLE, "/runs/cuda")
        assert tree().pinned_mib == 0, "shared memory of a process without a GPU is not pinned"
        monkeypatch.setattr("launcher.machine.process_tree.has_driver_open", lambda pid: True)
        assert ProcessTree(VARIABLE, "/runs/cuda")().pinned_mib == 64
    finally:
        holder.communicate()
    assert gpu_processes.has_driver_open(os.getpid()) is False


def test_one_that_was_seen_before_it_became_the_runs_is_found():
    tree = ProcessTree(VARIABLE, "/runs/late")
    code = f"read line; {VARIABLE}=/runs/late exec {sys.executable} -c 'input()'"
    process = subprocess.Popen(["sh", "-c", code], stdin=subprocess.PIPE)
    assert tree().processes == 0
    process.stdin.write(b"\n")
    process.stdin.flush()
    wait_for(lambda: VARIABLE.encode() in Path(f"/proc/{process.pid}/environ").read_bytes())
    assert tree().processes == 1
    process.stdin.close()
    process.wait()


def test_one_that_is_none_of_the_runs_is_not_asked_for_ever(tmp_path):
    process = tmp_path / "4711"
    process.mkdir()
    (process / "environ").write_text("HOME=/\0")
    (process / "status").write_text("VmRSS:\t  204800 kB\n")
    tree = ProcessTree(VARIABLE, "/runs/none", proc=tmp_path)
    for _ in range(LOOKS):
        tree()
    (process / "environ").write_text(f"{VARIABLE}=/runs/none\0")
    assert tree().processes == 0
