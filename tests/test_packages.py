"""What is installed, what is imported when, and what the lists of packages may hold."""

import json
import pkgutil
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from harness.fake_model import write_model, write_pictures

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "deepspeed", "diffusers", "accelerate", "transformers")
"""What costs seconds and a CUDA context: nothing but training and probes may import it."""
WITH_TORCH = ("launcher.train", "launcher.probes")
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line and line[0] != "#"
)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
REQUIRED = [Requirement(text) for text in (*PYPROJECT["project"]["dependencies"], *EXTRAS["dev"], *EXTRAS["serve"])]


def imported_by(code: str, *arguments: str, cwd: Path = ROOT) -> tuple[set[str], subprocess.CompletedProcess]:
    """Top-level modules that are there once an interpreter has run ``code``."""
    tell = "\nimport sys; print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code + tell, *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.splitlines()[-1].split()), done


def modules_of(package: str) -> list[str]:
    """Every module of a package that the interface may import."""
    found = pkgutil.walk_packages([str(ROOT / package)], f"{package}.", onerror=lambda name: None)
    names = [package, *(module.name for module in found)]
    return [name for name in names if not name.startswith(WITH_TORCH) and not name.endswith("__main__")]


def command(*arguments: str, cwd: Path = ROOT) -> tuple[set[str], subprocess.CompletedProcess]:
    """What one command has imported by its end."""
    code = "import sys\nfrom simpletuner_tui.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass"
    return imported_by(code, *arguments, cwd=cwd)


# packages


def test_pynvml_comes_from_nvidia_and_the_old_distribution_is_absent():
    assert packages_distributions()["pynvml"] == ["nvidia-ml-py"]
    with pytest.raises(PackageNotFoundError):
        distribution("pynvml")


@pytest.mark.parametrize("name", PINNED)
def test_what_is_installed_is_what_everything_was_tested_with(name):
    # torch's builds differ by a local part only: 2.13.0+cpu, 2.13.0+cu130.
    assert Version(version(name)).public == PINNED[name]


def test_the_versions_of_the_release_are_pinned():
    names = {canonicalize_name(requirement.name) for requirement in REQUIRED}
    wanted = {*HEAVY, "textual", "questionary", "psutil", "nvidia-ml-py", "pytest", "ruff", "mypy", "hypothesis"}
    assert wanted <= set(PINNED) <= names


@pytest.mark.parametrize("requirement", REQUIRED, ids=lambda requirement: requirement.name)
def test_every_bound_admits_what_is_installed(requirement):
    assert requirement.specifier.contains(version(requirement.name), prereleases=True)


def test_the_bounds_are_wide_enough_for_the_other_stack():
    bounds = {requirement.name: requirement.specifier for requirement in REQUIRED}
    assert "2.11.0" in bounds["torch"]
    assert "3.12.3" in Requirement(f"python{PYPROJECT['project']['requires-python']}").specifier


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_no_list_of_packages_names_a_place(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"://|\bwww\.|--(extra-)?index-url|--find-links|\s@\s|^-", text, re.MULTILINE)
    assert not re.search(r"\b[\w-]+(\.[\w-]+)*\.(com|org|net|io|dev|ai|eu)\b", text)


# imports


@pytest.mark.parametrize("package", ["simpletuner_tui", "launcher"])
def test_no_module_that_the_interface_may_import_brings_torch(package):
    names = modules_of(package)
    assert len(names) > 20
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    modules, _ = imported_by(code, *names)
    assert modules & set(HEAVY) == set()
    if package == "launcher":
        assert "simpletuner_tui" not in modules


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), ("runs",), ("presets",), ("plan",), ("questions", "--json"), ("attach", "nothing")],
    ids=" ".join,
)
def test_a_command_starts_without_torch_and_without_the_full_screen_app(arguments):
    modules, done = command(*arguments)
    assert modules & {*HEAVY, "textual", "questionary"} == set()
    assert done.stdout or done.stderr


def test_a_dry_run_plans_everything_without_torch(tmp_path):
    write_model(tmp_path / "model")
    write_pictures(tmp_path / "pictures")
    answers = {
        "training.pretrained_model_name_or_path": "./model",
        "training.instance_data_dir": "./pictures",
        "training.resolution": 64,
        "accelerate.use_cpu": True,
        "accelerate.use_deepspeed": True,
    }
    (tmp_path / "answers.json").write_text(json.dumps({"schema": 1, "answers": answers}))
    modules, done = command("--replay", "answers.json", "--dry-run", "--json", cwd=tmp_path)
    assert "deepspeed.json" in json.loads(done.stdout)["files"]
    assert modules & {*HEAVY, "textual", "questionary"} == set()


def test_lines_are_asked_without_what_draws(tmp_path):
    code = "import io, sys\nfrom simpletuner_tui.cli import main\nsys.stdin = io.StringIO('./model\\nquit\\n')\n"
    modules, done = imported_by(code + "assert main(['--accessible']) == 0", cwd=tmp_path)
    assert "Which SDXL model" in done.stdout
    assert modules & {*HEAVY, "textual", "questionary", "prompt_toolkit"} == set()


def test_the_supervisor_needs_no_torch(tmp_path):
    code = "import sys, launcher.__main__ as it\nassert it.main() == 1 or True"
    (tmp_path / "plan.json").write_text(json.dumps({"argv": ["/bin/true"], "environment": {}}))
    modules, _ = imported_by(code, str(tmp_path))
    assert "psutil" in modules
    assert modules & set(HEAVY) == set()
    assert (tmp_path / "state.json").exists()
