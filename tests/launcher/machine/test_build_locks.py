"""Locks of builds: one that goes on, one whose builder was killed, and none."""

import signal
import subprocess
import sys
import time

from harness.runs import wait_for
from launcher.machine.build_locks import build_locks

BUILDS = """
import sys, time
from torch.utils.file_baton import FileBaton
assert FileBaton(sys.argv[1]).try_acquire()
time.sleep(600)
"""


def test_a_lock_is_held_until_its_builder_is_killed_and_stale_from_then_on(tmp_path):
    assert build_locks(tmp_path) == build_locks(tmp_path / "none") == ()
    (tmp_path / "cpu_adam").mkdir()
    (tmp_path / "async_io").mkdir()
    with subprocess.Popen([sys.executable, "-c", BUILDS, str(tmp_path / "cpu_adam/lock")]) as builder:
        wait_for(lambda: build_locks(tmp_path))
        (held,) = build_locks(tmp_path)
        builder.send_signal(signal.SIGKILL)
    (stale,) = build_locks(tmp_path)
    assert (held.holder, held.extension, held.path) == (builder.pid, "cpu_adam", tmp_path / "cpu_adam/lock")
    assert (stale.holder, stale.path) == (None, held.path)
    assert abs(stale.since - time.time()) < 60
