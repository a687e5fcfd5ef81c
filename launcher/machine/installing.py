"""The command that installs a system package here, whichever distribution this is."""

import os
import shutil
from collections.abc import Callable, Iterable, Mapping

MANAGERS: Mapping[str, str] = {
    "apt-get": "apt install",
    "dnf": "dnf install",
    "yum": "yum install",
    "pacman": "pacman -S",
    "zypper": "zypper install",
    "apk": "apk add",
}
"""Package managers in the order in which they are looked for, and how each is told to install."""

_FEDORA = {"g++": "gcc-c++", "python3-dev": "python3-devel", "libaio-dev": "libaio-devel"}
_NAMES: Mapping[str, Mapping[str, str]] = {
    "dnf": _FEDORA,
    "yum": _FEDORA,
    "zypper": {**_FEDORA, "ninja-build": "ninja"},
    "pacman": {"g++": "gcc", "python3-dev": "python", "ninja-build": "ninja", "libaio-dev": "libaio"},
}
"""What others call the packages of Debian and Ubuntu, where they call them otherwise."""


def install_command(
    packages: Iterable[str], which: Callable[[str], str | None] = shutil.which, *, root: bool | None = None
) -> str:
    """What to type; Debian's and Ubuntu's command where no package manager is known.

    Args:
        packages: by the names that Debian and Ubuntu give them.
        which: finds a program; tests give their own.
        root: whether whoever types it may install; this process's user by default.
    """
    manager = next((name for name in MANAGERS if which(name)), "apt-get")
    names = _NAMES.get(manager, {})
    may = os.geteuid() == 0 if root is None else root
    return f"{'' if may else 'sudo '}{MANAGERS[manager]} {' '.join(names.get(each, each) for each in packages)}"
