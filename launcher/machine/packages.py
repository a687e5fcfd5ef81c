"""Which packages are installed, without importing them."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


def is_installed(module: str) -> bool:
    """Whether a top-level module could be imported."""
    return find_spec(module) is not None


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution; None where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
