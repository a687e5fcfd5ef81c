"""What several tests of the machine stand on."""

import sys
from collections.abc import Callable

import pytest

from harness.nvml import FakeNvml
from launcher.machine import gpu_processes


@pytest.fixture
def nvml(monkeypatch) -> Callable[..., FakeNvml]:
    """Cards of our own, outside any container."""
    monkeypatch.setattr(gpu_processes, "in_container", lambda: False)

    def install(*cards, **fails) -> FakeNvml:
        fake = FakeNvml(*cards, **fails)
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return fake

    return install
