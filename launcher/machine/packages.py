"""Which packages are installed, without importing them."""

from importlib.util import find_spec
from pathlib import Path


def is_installed(module: str) -> bool:
    """Whether a module could be imported; nothing above a submodule is imported to find out."""
    top, *below = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # a module made by hand, with nothing behind it
        return False
    if spec is None or not below:
        return spec is not None
    places = [Path(place, *below) for place in spec.submodule_search_locations or ()]
    return any(place.is_dir() or place.with_suffix(".py").is_file() for place in places)


def installed_version(distribution: str) -> str | None:
    """The version of an installed distribution; None where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - brings e-mail and archives

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
