"""What is known of a machine: read from the file its probe wrote, or measured anew."""

import json
import os
import subprocess
import time
from dataclasses import replace

import pytest

from harness.h200 import H200
from launcher.machine.bandwidths import (
    STALE_SECONDS,
    Bandwidths,
    DriveSpeed,
    bandwidths_file,
    known,
    known_or_begun,
    this_hardware,
)
from launcher.machine.packages import installed_version


@pytest.fixture
def hardware(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return H200.hardware


def keep(measured: Bandwidths) -> None:
    file = bandwidths_file(measured.hardware)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(measured.to_bytes())


@pytest.mark.parametrize("drive", [None, DriveSpeed("/nvme", 2.0, 4.0)])
@pytest.mark.parametrize("gpu", [None, H200.gpu])
def test_what_is_kept_is_known_again(hardware, gpu, drive):
    measured = replace(H200, gpu=gpu, drive=drive)
    assert known(hardware) is None
    keep(measured)
    assert known(hardware) == measured


def test_another_gpu_driver_torch_or_number_of_threads_is_another_machine(hardware):
    keep(H200)
    for changed in ({"uuid": "GPU-b"}, {"driver": "590.1"}, {"torch": "2.12.0"}, {"threads": 8}):
        assert known(replace(hardware, **changed)) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"gpu": null}', b"\xff"])
def test_a_damaged_file_is_none(hardware, content):
    keep(H200)
    bandwidths_file(hardware).write_bytes(content)
    assert known(hardware) is None


def test_a_file_of_other_fields_is_none(hardware):
    keep(H200)
    content = json.loads(bandwidths_file(hardware).read_bytes())
    bandwidths_file(hardware).write_text(json.dumps({**content, "host": {"copy_gb_s": 1}}))
    assert known(hardware) is None


def test_this_machine_is_told_by_its_first_visible_gpu(monkeypatch):
    found = this_hardware(4)
    assert (found.torch, found.threads) == (installed_version("torch"), 4)


def test_what_is_old_or_lacks_the_drive_is_measured_again(hardware, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: begun.append(command) or "process")
    fresh = replace(H200, time=time.time(), drive=DriveSpeed("/nvme", 2.0, 4.0))
    assert known_or_begun(hardware) == "process"
    keep(fresh)
    assert known_or_begun(hardware) == known_or_begun(hardware, "/nvme") == fresh
    assert known_or_begun(hardware, "/other") == "process"
    keep(replace(fresh, time=time.time() - STALE_SECONDS - 1))
    assert known_or_begun(hardware) == "process"
    file = str(bandwidths_file(hardware))
    assert [command[3:] for command in begun] == [
        [file, "--threads", "16"],
        [file, "--threads", "16", "--nvme", "/other"],
        [file, "--threads", "16"],
    ]
    assert file.startswith(os.environ["XDG_CACHE_HOME"])
