"""What accelerate would find on this machine, without importing what it imports to find out.

accelerate answers by importing torch and the vendors' packages, which takes seconds and opens devices. Here a
package is looked up where Python would find it, and a device by the files its driver makes.
"""

import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, metadata, version
from importlib.util import find_spec
from pathlib import Path

from packaging.version import InvalidVersion, Version

from launcher.machine.packages import is_installed

TORCHAO = Version("0.6.1")
"""The oldest torchao that accelerate uses."""

VENDORS: dict[str, tuple[str, str]] = {
    "npu": ("torch_npu", "davinci[0-9]*"),
    "mlu": ("torch_mlu", "cambricon_dev[0-9]*"),
    "sdaa": ("torch_sdaa", "tcaicard[0-9]*"),
    "musa": ("torch_musa", "mtgpu.[0-9]*"),
    "neuron": ("torch_neuronx", "neuron[0-9]*"),
    "hpu": ("habana_frameworks.torch", "accel/accel[0-9]*"),
}
"""Accelerators that come with a package of their own: that package, and their devices below /dev."""

INTEL = "0x8086"
"""Intel's PCI vendor id, as the kernel writes it."""


def available(root: Path = Path("/")) -> dict[str, bool]:
    """accelerate's ``is_…_available`` by name.

    Args:
        root: where ``dev`` and ``sys`` are; tests give their own.
    """
    found = {name: _has_device(module, pattern, root) for name, (module, pattern) in VENDORS.items()}
    found["mps"] = _has_mps()
    found["xpu"] = _has_xpu(root)
    for name in ("deepspeed", "transformers", "boto3"):
        found[name] = has_package(name)
    found["msamp"] = has_package("msamp", "ms-amp")
    engine = "intel_transformer_engine" if found["hpu"] else "transformer_engine"
    found["transformer_engine"] = has_package(engine, engine.replace("_", "-"))
    found["torchao"] = has_package("torchao") and _is_new_enough("torchao", TORCHAO)
    found["fp8"] = found["msamp"] or found["transformer_engine"] or found["torchao"]
    found["colab"] = has_package("google.colab")
    return found


def has_package(module: str, distribution: str | None = None) -> bool:
    """Whether a package is installed: both its code and what says its version.

    Args:
        module: its name in Python.
        distribution: its name where it is installed from, if that is another one.
    """
    if not is_installed(module):
        return False
    try:
        metadata(distribution or module)
    except PackageNotFoundError:
        return False
    return True


def _is_new_enough(distribution: str, least: Version) -> bool:
    try:
        return Version(version(distribution)) >= least
    except (InvalidVersion, TypeError):  # its metadata has none, or no version anybody could compare
        return False


def _has_device(module: str, pattern: str, root: Path) -> bool:
    return is_installed(module) and any((root / "dev").glob(pattern))


def _has_mps() -> bool:
    # torch for macOS is built with MPS, and is built for Apple's own chips only.
    return sys.platform == "darwin" and platform.machine() == "arm64" and is_installed("torch")


def _has_xpu(root: Path) -> bool:
    if not _built_for_xpu():
        return False
    vendors = (root / "sys/class/drm").glob("renderD*/device/vendor")
    return any(path.read_text().strip() == INTEL for path in vendors)


def _built_for_xpu() -> bool:
    """Whether torch was built for Intel's GPUs, as torch/version.py has it."""
    try:
        spec = find_spec("torch")
    except ValueError:
        return False
    for place in (spec and spec.submodule_search_locations) or ():
        path = Path(place, "version.py")
        if path.is_file():
            return re.search(r"^xpu[^=]*=\s*['\"]", path.read_text(), re.MULTILINE) is not None
    return False
