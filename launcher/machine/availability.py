"""What accelerate would find on this machine, without importing what it imports to find out.

accelerate answers by importing torch and the vendors' packages, which takes seconds and opens devices. Here a
package is looked up where Python would find it, and a device by the files its driver makes.
"""

import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from launcher.machine.packages import is_installed

TORCHAO = "0.6.1"
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

INTEL, NVIDIA = "0x8086", "0x10de"
"""Their PCI vendor ids, as the kernel writes them."""


class Availability(Mapping[str, bool]):
    """accelerate's ``is_…_available`` by name, each found out when it is first asked for: most never are."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Looks for nothing yet.

        Args:
            root: where ``dev`` and ``sys`` are; tests give their own.
        """
        self._found: dict[str, bool] = {}
        self._probes: dict[str, Callable[[], bool]] = {
            **{name: partial(_has_device, *signs, root) for name, signs in VENDORS.items()},
            "mps": _has_mps,
            "xpu": partial(_has_xpu, root),
            **{name: partial(has_package, name) for name in ("deepspeed", "transformers", "boto3")},
            "msamp": partial(has_package, "msamp", "ms-amp"),
            "transformer_engine": self._has_transformer_engine,
            "torchao": _has_torchao,
            "fp8": lambda: any(self[name] for name in ("msamp", "transformer_engine", "torchao")),
            "colab": partial(has_package, "google.colab"),
        }

    def __getitem__(self, name: str) -> bool:
        if name not in self._found:
            self._found[name] = self._probes[name]()
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._probes)

    def __len__(self) -> int:
        return len(self._probes)

    def _has_transformer_engine(self) -> bool:
        engine = "intel_transformer_engine" if self["hpu"] else "transformer_engine"
        return has_package(engine, engine.replace("_", "-"))


def available(root: Path = Path("/")) -> dict[str, bool]:
    """accelerate's ``is_…_available`` by name, all of them.

    Args:
        root: where ``dev`` and ``sys`` are; tests give their own.
    """
    return dict(Availability(root))


def has_package(module: str, distribution: str | None = None) -> bool:
    """Whether a package is installed: both its code and what says its version.

    Args:
        module: its name in Python.
        distribution: its name where it is installed from, if that is another one.
    """
    if not is_installed(module):
        return False
    # It brings e-mail and archives, a tenth of a start, and most walks never ask.
    from importlib.metadata import PackageNotFoundError, metadata  # noqa: PLC0415

    try:
        metadata(distribution or module)
    except PackageNotFoundError:
        return False
    return True


def _has_torchao() -> bool:
    if not has_package("torchao"):
        return False
    from importlib.metadata import version  # noqa: PLC0415 - as above

    from packaging.version import InvalidVersion, Version  # noqa: PLC0415 - only for those who have it

    try:
        return Version(version("torchao")) >= Version(TORCHAO)
    except (InvalidVersion, TypeError):  # its metadata has none, or no version anybody could compare
        return False


def _has_device(module: str, pattern: str, root: Path) -> bool:
    return is_installed(module) and any((root / "dev").glob(pattern))


def _has_mps() -> bool:
    # torch for macOS is built with MPS, and is built for Apple's own chips only.
    return sys.platform == "darwin" and platform.machine() == "arm64" and is_installed("torch")


def _has_xpu(root: Path) -> bool:
    return bool(torch_built_for("xpu")) and has_gpu_of(INTEL, root)


def has_gpu_of(vendor: str, root: Path = Path("/")) -> bool:
    """Whether the kernel knows a GPU of a vendor's.

    Args:
        vendor: its PCI id, as the kernel writes it.
        root: where ``sys`` is; tests give their own.
    """
    vendors = (root / "sys/class/drm").glob("renderD*/device/vendor")
    return any(path.read_text().strip() == vendor for path in vendors)


def is_on_bus(vendor: str, root: Path = Path("/")) -> bool:
    """Whether a display controller of a vendor's is on the PCI bus, whichever driver it has.

    Args:
        vendor: its PCI id, as the kernel writes it.
        root: where ``sys`` is; tests give their own.
    """
    return any(
        (device / "class").read_text().startswith("0x03") and (device / "vendor").read_text().strip() == vendor
        for device in (root / "sys/bus/pci/devices").glob("*")
    )


def torch_built_for(platform: str) -> str:
    """The version of a platform that torch was built for, as torch/version.py has it; empty where it was not.

    Args:
        platform: ``cuda``, ``hip`` (AMD's ROCm) or ``xpu``.
    """
    try:
        spec = find_spec("torch")
    except ValueError:
        return ""
    for place in (spec and spec.submodule_search_locations) or ():
        path = Path(place, "version.py")
        if path.is_file():
            found = re.search(rf"^{platform}\b[^=]*=\s*['\"]([^'\"]*)", path.read_text(), re.MULTILINE)
            return found[1] if found else ""
    return ""
