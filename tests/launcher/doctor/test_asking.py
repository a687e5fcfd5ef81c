"""The doctor's probes as processes: what they answer, how they fail, what is kept of it."""

import json
import os
import sys

import psutil
import pytest

from harness.runs import wait_for
from launcher.doctor.asking import Asking
from launcher.doctor.facts import packages
from launcher.doctor.remembering import remember, remembered
from launcher.machine import probing
from launcher.machine.probing import Answer, Probe


def answer(name: str, *arguments: str) -> Answer:
    probe = Probe(name, *arguments)
    wait_for(lambda: probe.ended, 120)
    return probe.answer()


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/simpletuner-tui/probes"


def test_cpu_adam_is_built_and_stepped_once_and_remembered(extensions, own_cache):
    asking = Asking()
    assert asking.compiles
    wait_for(lambda: asking.ended, 120)
    device, adam = asking.answers()
    assert (adam.failure, adam.told["failure"]) == ("", "")
    assert adam.told["difference"] < 1e-5
    assert (device.failure, device.told["failure"]) == ("", "")
    (kept,) = own_cache.iterdir()  # only where the extension lies that a run would load
    assert json.loads(kept.read_text())["told"] == adam.told
    again = Asking()
    assert not again.compiles
    wait_for(lambda: again.ended, 60)
    assert again.answers()[1].told == {**adam.told, "remembered": True}


def test_what_does_not_compile_says_why_and_is_not_remembered(tmp_path, monkeypatch, own_cache):
    compiler = tmp_path / "c++"
    fails = 'case "$*" in *" -c "*) echo "c++: fatal error: no space left" >&2; exit 1;; esac\nexec /usr/bin/c++ "$@"'
    compiler.write_text(f"#!/bin/sh\n{fails}\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    asking = Asking()
    wait_for(lambda: asking.ended, 120)
    told = asking.answers()[1].told
    assert (told["failure"], told["difference"]) == ("c++: fatal error: no space left", None)
    assert not own_cache.exists()
    assert remembered() is None


@pytest.mark.parametrize("stale", [True, False])
def test_while_a_lock_is_there_nothing_is_compiled(tmp_path, monkeypatch, own_cache, stale):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    (tmp_path / "cpu_adam").mkdir()
    lock = tmp_path / "cpu_adam/lock"
    with lock.open("w") as holding:
        if stale:
            holding.close()
        asking = Asking()
        asking.stop()
    assert not asking.compiles
    (seen,) = asking.locks
    assert (seen.path, seen.holder) == (lock, None if stale else os.getpid())


def test_without_a_compiler_nothing_is_tried(tmp_path, monkeypatch, own_cache):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    asking = Asking()
    wait_for(lambda: asking.ended, 60)
    assert asking.answers()[1].told["untried"].startswith("g++")


def test_what_was_compiled_anew_or_elsewhere_is_not_remembered(tmp_path, monkeypatch, own_cache):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    extension = tmp_path / "cpu_adam/cpu_adam.so"
    extension.parent.mkdir()
    extension.write_bytes(b"one")
    cpu = tmp_path / "cpuinfo"
    cpu.write_text("model name\t: A\nflags\t\t: avx2\n\nmodel name\t: A\n")
    remember({"failure": ""}, cpu)
    assert remembered(cpu) == {"failure": ""}
    cpu.write_text("model name\t: A\nflags\t\t: avx2 avx512f\n\n")
    assert remembered(cpu) is None
    cpu.write_text("model name\t: A\nflags\t\t: avx2\n\n")
    monkeypatch.setattr("launcher.doctor.remembering.installed_version", lambda name: "other")
    assert remembered(cpu) is None
    monkeypatch.undo()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert remembered(cpu) == {"failure": ""}
    extension.write_bytes(b"three")
    assert remembered(cpu) is None
    extension.unlink()
    assert remembered(cpu) is None
    remember({"failure": ""}, cpu)  # nowhere to read its time from: nothing is kept, and nothing fails


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Has a few lines of Python stand for a probe."""

    def make(lines: str) -> None:
        script = tmp_path / "python"
        script.write_text(f"#!{sys.executable} -S\nimport os, signal, sys, time\n{lines}\n")
        script.chmod(0o755)
        monkeypatch.setattr(probing.sys, "executable", str(script))

    return make


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("print('{\"a\": 1}')", Answer({"a": 1})),
        ("print('[1]')", Answer(failure="it said nothing")),
        ("print('warned', file=sys.stderr); print('no JSON')", Answer(failure="warned")),
        ("raise OSError('libcudart.so.13 is gone')", Answer(failure="OSError: libcudart.so.13 is gone")),
        ("os.kill(os.getpid(), signal.SIGILL)", Answer(failure="it was ended by SIGILL", signal="SIGILL")),
    ],
)
def test_an_answer_or_the_last_words(stand_in, lines, told):
    stand_in(lines)
    assert answer("any") == told


def test_one_that_is_not_waited_for_any_more_is_gone(stand_in, monkeypatch, own_cache):
    stand_in("time.sleep(600)")
    monkeypatch.setattr("launcher.doctor.asking.PATIENCE", 0.0)
    asking = Asking()
    children = psutil.Process().children()
    wait_for(lambda: asking.ended)
    device, _ = asking.answers()
    assert device.failure == "it did not end within 0 minutes"
    assert children
    assert not any(child.is_running() for child in children)


def test_the_device_probe_tells_torchs_own_words_where_a_gpu_is_hidden(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    told = answer("device", "--pin", "1").told
    assert (told["devices"], "torch" in told) == ([], True)


def test_packages_are_what_the_metadata_of_this_program_asks_for(tmp_path, monkeypatch):
    metadata = tmp_path / "example-1.0.dist-info/METADATA"
    metadata.parent.mkdir()
    needs = ["psutil>=1", "pillow<1", "no-such-thing-here>=2", "ruff; extra == 'dev'"]
    lines = [f"Requires-Dist: {each}" for each in needs]
    metadata.write_text("\n".join(["Metadata-Version: 2.1", "Name: example", "Version: 1.0", *lines]))
    monkeypatch.syspath_prepend(tmp_path)
    found = {package.name: (package.installed is not None, package.is_tested) for package in packages("example")}
    assert found == {"psutil": (True, True), "pillow": (True, False), "no-such-thing-here": (False, False)}
    assert packages("never-installed-here") == ()
    assert all(package.is_tested for package in packages())
