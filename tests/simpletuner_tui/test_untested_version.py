"""A DeepSpeed that the rules were not proven with is named wherever they are asked."""

import json
import os

import pytest

from harness.runs import cli
from launcher.errors import ExitCode

TOLD = "DeepSpeed 0.19.99 is not tested: judged by what 0.19.8 does"


@pytest.fixture
def another(tmp_path) -> dict[str, str]:
    """An environment in which another version is installed, as package metadata say."""
    info = tmp_path / "packages" / "deepspeed-0.19.99.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deepspeed\nVersion: 0.19.99\n")
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(info.parent), os.environ.get("PYTHONPATH")]))}


def test_a_configuration_is_checked_with_a_warning(home, another):
    (home / "ds.json").write_text('{"zero_optimization": {"stage": 2}}')
    done = cli("deepspeed", "ds.json", "--check", cwd=home, **another)
    assert done.returncode == ExitCode.OK
    assert f"warning deepspeed: {TOLD} [untested-version]" in done.stderr.splitlines()
    told = json.loads(cli("deepspeed", "ds.json", "--check", "--json", cwd=home, **another).stdout)
    assert {"field": "deepspeed", "rule": "untested-version", "level": "warning", "message": TOLD} in told["problems"]


def test_a_launch_says_it_before_it_starts(home, another):
    done = cli("--replay", "answers.json", "--dry-run", "--set", "accelerate.use_deepspeed=true", cwd=home, **another)
    assert done.returncode == ExitCode.OK, done.stderr
    assert f"warning: accelerate.use_deepspeed: {TOLD}" in done.stderr
    plain = cli("--replay", "answers.json", "--dry-run", "--set", "accelerate.use_deepspeed=false", cwd=home, **another)
    assert TOLD not in plain.stderr
    tested = cli("--replay", "answers.json", "--dry-run", "--set", "accelerate.use_deepspeed=true", cwd=home)
    assert "not tested" not in tested.stderr
