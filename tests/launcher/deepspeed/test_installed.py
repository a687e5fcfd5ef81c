"""What is read from the installed DeepSpeed's sources is what it says when it is imported."""

import json
import os
import subprocess
import sys

import pytest

from launcher.deepspeed.installed import TESTED, Installed, read_installed, read_sources
from launcher.deepspeed.rules import judge
from launcher.deepspeed.run_facts import RunFacts

IMPORTED = """
import json
import deepspeed
from deepspeed.runtime import config, lr_schedules
from deepspeed.runtime.zero.utils import ZERO_SUPPORTED_OPTIMIZERS
print("IMPORTED", json.dumps({
    "version": deepspeed.__version__,
    "optimizers": config.DEEPSPEED_OPTIMIZERS,
    "zero_supported": [cls.__name__ for cls in ZERO_SUPPORTED_OPTIMIZERS],
    "schedulers": lr_schedules.VALID_LR_SCHEDULES,
    "removed": [*config._REMOVED_TOP_LEVEL_CONFIG_KEYS,
                *(f"zero_optimization.{key}" for key in config._REMOVED_ZERO_CONFIG_KEYS)],
}))
"""


@pytest.fixture(scope="module")
def imported() -> dict:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        env={**os.environ, "DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return json.loads(done.stdout.rpartition("IMPORTED")[2])


def test_the_sources_say_what_the_package_says(imported):
    installed = read_installed()
    assert {key: list(getattr(installed, key)) for key in imported if key != "version"} == {
        key: value for key, value in imported.items() if key != "version"
    }
    assert installed.version.startswith(imported["version"])


def test_the_tested_version_is_written_down_as_it_is():
    installed = read_installed()
    if installed.version == TESTED.version:
        assert (installed.optimizers, installed.zero_supported, installed.schedulers, installed.removed) == (
            TESTED.optimizers,
            TESTED.zero_supported,
            TESTED.schedulers,
            TESTED.removed,
        )


def test_reading_imports_neither_deepspeed_nor_torch():
    script = (
        "import sys; from launcher.deepspeed.installed import read_installed; read_installed();"
        "import launcher.deepspeed.opening, launcher.deepspeed.normalise;"
        "heavy = {'deepspeed', 'torch', 'accelerate', 'diffusers', 'transformers'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.fixture
def package(tmp_path):
    """A package with other names in it."""
    (tmp_path / "runtime/zero").mkdir(parents=True)
    (tmp_path / "runtime/config.py").write_text('A = "adamw"\nDEEPSPEED_OPTIMIZERS = [A, "shiny"]\n')
    (tmp_path / "runtime/lr_schedules.py").write_text("this is no python")
    return tmp_path


def test_another_version_is_read_as_far_as_it_can_be(package):
    installed = read_sources("0.20.0", package)
    assert installed.optimizers == ("adamw", "shiny")
    assert installed.schedulers == TESTED.schedulers
    assert installed.zero_supported == TESTED.zero_supported


@pytest.mark.parametrize(("version", "words"), [("0.20.0", "0.20.0 is not tested"), (None, "is not installed")])
def test_a_version_nobody_tried_is_said(version, words):
    other = Installed(version, TESTED.optimizers, TESTED.zero_supported, TESTED.schedulers, TESTED.removed)
    (problem,) = (found for found in judge({}, RunFacts(), other) if found.rule == "untested-version")
    assert words in problem.message
    assert problem.level == "warning"
    assert "untested-version" not in {found.rule for found in judge({}, RunFacts(), TESTED)}
