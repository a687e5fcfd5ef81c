"""What is known of a machine: read from the file its probe wrote, or measured anew."""

import json
from dataclasses import replace

import pytest

from harness.h200 import H200, keep
from launcher.machine.bandwidths import (
    DriveSpeed,
    bandwidths_file,
    known,
    this_hardware,
)
from launcher.machine.packages import installed_version


@pytest.fixture
def hardware(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return H200.hardware


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
