"""Every screen test is in a folder of its own."""

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the test is: empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("NO_COLOR", raising=False)
    return tmp_path
