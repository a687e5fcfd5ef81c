"""Compiler, ninja and headers, on search paths of our own."""

import os
import sys

import pytest

from launcher.machine.packages import installed_version, is_installed
from launcher.machine.toolchain import Toolchain, missing_for_nvme, read_toolchain


@pytest.fixture(autouse=True)
def no_compiler_named(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)


@pytest.fixture
def programs(tmp_path):
    """A search path of folders with programs of these names."""

    def make(*names: str) -> str:
        for name in names:
            path = tmp_path / name
            path.write_text("#!/bin/sh\n")
            path.chmod(0o755)
        return str(tmp_path)

    return make


def test_a_path_with_a_compiler_is_complete_where_headers_are(programs, tmp_path):
    found = read_toolchain(programs("c++"))
    assert found.compiler == str(tmp_path / "c++")
    assert found.complete is found.headers


def test_a_path_with_nothing_wants_a_compiler(programs):
    found = read_toolchain(programs())
    assert found.compiler is None
    assert "g++" in found.missing_packages
    assert not found.complete


@pytest.mark.parametrize(
    ("found", "missing"),
    [
        (Toolchain("/usr/bin/c++", True, "/usr/bin/ninja"), ()),
        (Toolchain(None, True, "/usr/bin/ninja"), ("g++",)),
        (Toolchain("/usr/bin/c++", False, "/usr/bin/ninja"), ("python3-dev",)),
        (Toolchain("/usr/bin/c++", True, None), ("ninja-build",)),
        (Toolchain(None, False, None), ("g++", "python3-dev", "ninja-build")),
    ],
)
def test_what_is_missing_is_named_by_its_package(found, missing):
    assert found.missing_packages == missing
    assert found.complete is (missing == ())


def test_ninja_is_found_beside_the_interpreter_where_the_supervisor_puts_it_first(programs):
    assert read_toolchain(programs("c++")).ninja == f"{os.path.dirname(sys.executable)}/ninja"  # noqa: PTH120


def test_without_a_path_it_is_the_environments(programs, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", programs("c++", "ninja"))
    assert read_toolchain().compiler == str(tmp_path / "c++")
    assert read_toolchain("").compiler is None


@pytest.mark.parametrize(
    ("named", "there", "found"),
    [
        ("clang++", ("clang++", "c++"), "clang++"),
        ("ccache g++", ("ccache", "c++"), "ccache"),
        ("clang++", ("c++", "g++"), None),
        (None, ("g++",), None),
        ("'", ("c++",), None),
        ("", ("c++",), None),
    ],
)
def test_the_compiler_is_the_one_that_torch_will_call(programs, monkeypatch, tmp_path, named, there, found):
    if named is not None:
        monkeypatch.setenv("CXX", named)
    compiler = read_toolchain(programs(*there)).compiler
    assert compiler == (found and str(tmp_path / found))


def test_a_compiler_that_may_not_be_run_is_none(programs, tmp_path):
    path = programs("c++")
    (tmp_path / "c++").chmod(0o644)
    assert read_toolchain(path).compiler is None


def test_libaio_is_found_by_the_compiler_and_named_where_it_finds_none(tmp_path, programs, monkeypatch):
    found = read_toolchain()
    assert missing_for_nvme(found) == ()  # CI installs it
    monkeypatch.setenv("CXX", "none")
    (tmp_path / "none").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "none").chmod(0o755)
    without = read_toolchain(str(tmp_path))
    assert missing_for_nvme(without) == (*without.missing_packages, "libaio-dev")


def test_without_a_compiler_libaio_is_looked_for_where_it_is_installed():
    headers = os.path.exists("/usr/include/libaio.h")  # noqa: PTH110
    assert ("libaio-dev" in missing_for_nvme(Toolchain(None, True, "/usr/bin/ninja"))) is not headers


# packages


def test_packages_are_known_without_importing_them():
    assert is_installed("accelerate")
    assert installed_version("accelerate").startswith("1.")
    assert not is_installed("no_such_module_here")
    assert installed_version("no-such-distribution-here") is None
