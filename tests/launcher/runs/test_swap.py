"""Folders for NVMe offload: held by the living, removed after the dead, and nothing else is touched."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from launcher.errors import ExitCode, RefusedToOverwriteError
from launcher.runs.swap import OWNER, Cleaned, owned

HOLD = """
import sys
from pathlib import Path
from launcher.runs.swap import owned
folder = Path(sys.argv[1])
with owned([folder]):
    (folder / "zero_stage_3/optimizer").mkdir(parents=True)
    (folder / "zero_stage_3/optimizer/1.tensor.swp").write_bytes(b"x" * 5000)
    print("holds", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(folder: Path):
    """A process that swaps to a folder until it is let go."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "holds\n"
        yield process
    finally:
        process.communicate("")


def killed(folder: Path) -> int:
    """Leaves what a process leaves that is killed while it swaps; its pid."""
    with holding(folder) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (folder / "zero_stage_3/optimizer/1.tensor.swp").exists()
    return process.pid


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start(folder: Path) -> Cleaned:
    """Begins and ends a run."""
    with owned([folder]) as cleaned:
        assert names(folder) == [OWNER]
    assert not folder.exists()
    return cleaned


def test_a_holder_is_named_by_pid_start_and_host(tmp_path):
    with holding(tmp_path / "a") as process:
        owner = json.loads((tmp_path / "a" / OWNER).read_text())
        assert (owner["pid"], owner["host"]) == (process.pid, socket.gethostname())
        assert owner["started"] > 1e9
    assert not (tmp_path / "a").exists()


def test_what_a_killed_run_left_is_removed_and_its_bytes_are_told(tmp_path):
    pid = killed(tmp_path / "killed")
    assert json.loads((tmp_path / "killed" / OWNER).read_text())["pid"] == pid
    cleaned = start(tmp_path / "new")
    (removed,) = cleaned.removed
    assert removed.path == tmp_path / "killed"
    assert 5000 < removed.bytes < 5200
    assert cleaned.left == ()
    assert list(tmp_path.iterdir()) == []


def test_what_the_run_itself_left_is_removed_too(tmp_path):
    killed(tmp_path / "same")
    (removed,) = start(tmp_path / "same").removed
    assert removed.path == tmp_path / "same"


def test_a_living_run_is_left_alone_and_its_own_folder_is_refused(tmp_path):
    with holding(tmp_path / "alive"):
        assert start(tmp_path / "new") == Cleaned((), ())
        assert (tmp_path / "alive/zero_stage_3/optimizer/1.tensor.swp").exists()
        with pytest.raises(RefusedToOverwriteError, match="end that run first") as refused, owned([tmp_path / "alive"]):
            pass
        assert refused.value.exit_code is ExitCode.REFUSED_TO_OVERWRITE
        assert (tmp_path / "alive/zero_stage_3/optimizer/1.tensor.swp").exists()


def test_a_pid_that_was_given_to_another_process_is_no_owner(tmp_path):
    killed(tmp_path / "killed")
    mine = {"pid": os.getpid(), "started": 1e9, "host": socket.gethostname()}
    (tmp_path / "killed" / OWNER).write_text(json.dumps(mine))
    assert [each.path for each in start(tmp_path / "new").removed] == [tmp_path / "killed"]


def test_a_living_owner_is_spared_where_the_filesystem_has_no_locks(tmp_path):
    # Nobody holds the lock, as where flock does nothing; the process that is named lives.
    with holding(tmp_path / "alive") as process:
        owner = (tmp_path / "alive" / OWNER).read_text()
        (tmp_path / "unlocked").mkdir()
        (tmp_path / "unlocked" / OWNER).write_text(owner)
        assert json.loads(owner)["pid"] == process.pid
        assert start(tmp_path / "new") == Cleaned((), ())
    assert (tmp_path / "unlocked").exists()


@pytest.mark.parametrize(("host", "words"), [("elsewhere", "is of elsewhere"), (None, "is of nobody who is named")])
def test_another_hosts_folder_is_left_and_named(tmp_path, host, words):
    killed(tmp_path / "theirs")
    owner = json.loads((tmp_path / "theirs" / OWNER).read_text()) | {"host": host}
    (tmp_path / "theirs" / OWNER).write_text(json.dumps(owner) if host else "")
    cleaned = start(tmp_path / "new")
    assert cleaned.removed == ()
    (message,) = cleaned.left
    assert f"{tmp_path}/theirs {words}" in message
    assert (tmp_path / "theirs/zero_stage_3/optimizer/1.tensor.swp").exists()


def test_nothing_outside_the_root_is_reached_through_a_link(tmp_path):
    killed(tmp_path / "outside/killed")
    root = tmp_path / "root"
    killed(root / "killed")
    (root / "killed/zero_stage_3/away").symlink_to(tmp_path / "outside")
    (root / "linked").symlink_to(tmp_path / "outside/killed")
    (root / "half").mkdir()
    (root / "half" / OWNER).symlink_to(tmp_path / "outside/killed" / OWNER)
    (root / "mine").symlink_to(tmp_path / "outside/killed")
    cleaned = start(root / "mine")
    assert [each.path for each in cleaned.removed] == [root / "killed"]
    (message,) = cleaned.left
    assert f"{root}/half may be left by a dead run" in message
    assert (tmp_path / "outside/killed/zero_stage_3/optimizer/1.tensor.swp").exists()
    assert (tmp_path / "outside/killed" / OWNER).exists()


def test_what_is_none_of_ours_stays(tmp_path):
    (tmp_path / "zero_stage_3/optimizer").mkdir(parents=True)
    (tmp_path / "file").touch()
    assert start(tmp_path / "new") == Cleaned((), ())
    assert names(tmp_path) == ["file", "zero_stage_3"]


def test_what_cannot_be_removed_is_said_and_ends_nothing(tmp_path, monkeypatch):
    killed(tmp_path / "killed")

    def refuse(path, **_):
        if Path(path).name == "killed":
            raise PermissionError(13, "Permission denied", str(path))
        (Path(path) / OWNER).unlink()
        Path(path).rmdir()

    monkeypatch.setattr("launcher.runs.swap.shutil.rmtree", refuse)
    cleaned = start(tmp_path / "new")
    assert cleaned.removed == ()
    assert "cannot be removed (Permission denied); remove it by hand" in cleaned.left[0]


def test_two_folders_of_one_run_are_both_held(tmp_path):
    folders = [tmp_path / part / "run" for part in ("a", "b")]
    with owned([*folders, folders[0]]):
        assert [names(folder) for folder in folders] == [[OWNER], [OWNER]]
    assert not any(folder.exists() for folder in folders)
