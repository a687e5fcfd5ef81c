"""Our answers to "is it available" are accelerate's own, and come without importing what it imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.machine import availability
from launcher.machine.availability import VENDORS, Availability, available, has_package

ACCELERATE = """
import json, sys
from accelerate.utils import imports
from accelerate.commands.menu import selection_menu
names = json.load(sys.stdin)
told = {name: bool(getattr(imports, f"is_{name}_available")()) for name in names}
json.dump({**told, "colab": bool(selection_menu.in_colab)}, sys.stdout)
"""
OURS = """
import json, sys
from pathlib import Path
from launcher.machine.availability import available
before = set(sys.modules)
told = available(Path(sys.argv[1]))
imported = sorted({name.split(".")[0] for name in set(sys.modules) - before})
json.dump([told, imported], sys.stdout)
"""


def asked(script: str, *arguments: str, given: object = None, path: Path | None = None):
    """What a Python with more packages on its path says."""
    environment = {**os.environ, "PYTHONPATH": f"{path or ''}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


NAMES = sorted(set(available()) - {"colab"})


def both(path: Path | None = None, root: Path = Path("/")) -> tuple[dict, dict]:
    """accelerate's answers and ours; nothing of what is looked for is imported."""
    ours, imported = asked(OURS, str(root), path=path)
    assert not {"torch", "google", "accelerate", *NAMES, *(module for module, _ in VENDORS.values())} & set(imported)
    return asked(ACCELERATE, given=NAMES, path=path), ours


def install(folder: Path, module: str, distribution: str = "", version: str = "1.0", code: str = "") -> None:
    """A package that is nothing but its name, its version and what its import does."""
    package = folder.joinpath(*module.split("."))
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(code)
    if distribution:
        info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")


def test_nothing_is_looked_for_before_it_is_asked_for_and_then_once(monkeypatch):
    looked = []
    monkeypatch.setattr(availability, "has_package", lambda *names: bool(looked.append(names)))
    found = Availability()
    assert (len(found), looked) == (len(list(found)), [])
    assert [found["msamp"], found["msamp"], found.get("nothing")] == [False, False, None]
    assert looked == [("msamp", "ms-amp")]


def test_on_this_machine_accelerate_finds_the_same():
    theirs, ours = both()
    assert ours == theirs
    assert ours["deepspeed"] and ours["transformers"]


def test_packages_that_are_installed_are_found_by_both(tmp_path):
    for module, distribution in (
        ("msamp", "ms-amp"),
        ("transformer_engine", "transformer-engine"),
        ("torchao", "torchao"),
        ("boto3", "boto3"),
        ("google.colab", "google-colab"),
    ):
        install(tmp_path, module, distribution)
    theirs, ours = both(tmp_path)
    assert ours == theirs
    assert all(ours[name] for name in ("msamp", "transformer_engine", "torchao", "boto3", "colab", "fp8"))


@pytest.mark.parametrize(("version", "new_enough"), [("0.6.1rc1", False), ("0.6.1+cu121", True), ("0.10", True)])
def test_an_old_torchao_is_none(tmp_path, version, new_enough):
    install(tmp_path, "torchao", "torchao", version)
    theirs, ours = both(tmp_path)
    assert ours == theirs
    assert (ours["torchao"], ours["fp8"]) == (new_enough, new_enough)


def test_a_folder_that_was_never_installed_is_no_package(tmp_path):
    for module in ("boto3", "msamp", "torchao", "transformer_engine"):
        install(tmp_path, module)
    theirs, ours = both(tmp_path)
    assert ours == theirs
    assert not any(ours[name] for name in ("boto3", "msamp", "torchao", "transformer_engine", "fp8"))


DEVICE = """
import torch, types
torch.{name} = types.SimpleNamespace(is_available=lambda: {found})
"""
NODES = {
    "npu": "davinci0",
    "mlu": "cambricon_dev0",
    "sdaa": "tcaicard0",
    "musa": "mtgpu.0",
    "hpu": "accel/accel0",
}
"""What each vendor's driver makes below /dev. Neuron's package is not imported by accelerate: torch loads it itself."""


@pytest.mark.parametrize("found", [True, False])
def test_accelerators_are_found_by_their_packages_and_devices(found, tmp_path):
    install(tmp_path, "habana_frameworks")
    for name, node in NODES.items():
        install(tmp_path, VENDORS[name][0], code=DEVICE.format(name=name, found=found))
        if found:
            path = tmp_path / "dev" / node
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    theirs, ours = both(tmp_path, tmp_path)
    assert ours == theirs
    assert {ours[name] for name in NODES} == {found}


def test_gaudi_has_a_transformer_engine_of_its_own(tmp_path):
    install(tmp_path, "transformer_engine", "transformer-engine")
    install(tmp_path, "habana_frameworks")
    install(tmp_path, "habana_frameworks.torch", code=DEVICE.format(name="hpu", found=True))
    (tmp_path / "dev/accel").mkdir(parents=True)
    (tmp_path / "dev/accel/accel0").touch()
    assert not asked(OURS, str(tmp_path), path=tmp_path)[0]["transformer_engine"]
    install(tmp_path, "intel_transformer_engine", "intel-transformer-engine")
    theirs, ours = both(tmp_path, tmp_path)
    assert ours == theirs
    assert ours["transformer_engine"]


@pytest.mark.parametrize(("written", "built"), [("'20250000'", True), ("None", False)])
def test_an_intel_gpu_needs_a_torch_that_was_built_for_it(written, built, tmp_path, monkeypatch):
    install(tmp_path, "torch")
    (tmp_path / "torch/version.py").write_text(f"cuda: str | None = None\nxpu: str | None = {written}\n")
    device = tmp_path / "sys/class/drm/renderD128/device"
    device.mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    (device / "vendor").write_text("0x10de\n")
    assert not available(tmp_path)["xpu"]
    (device / "vendor").write_text("0x8086\n")
    assert available(tmp_path)["xpu"] is built


def test_apples_chips_have_mps(monkeypatch):
    assert not available()["mps"] or sys.platform == "darwin"
    monkeypatch.setattr(availability.sys, "platform", "darwin")
    monkeypatch.setattr(availability.platform, "machine", lambda: "arm64")
    assert available()["mps"]
    monkeypatch.setattr(availability.platform, "machine", lambda: "x86_64")
    assert not available()["mps"]


def test_a_module_made_by_hand_is_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", type(sys)("boto3"))
    assert not has_package("boto3")
