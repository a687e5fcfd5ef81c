"""Nested objects, as DeepSpeed's JSON is one, and their values by the keys that lead to them."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any


def leaves(content: Mapping[str, Any], above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every value of a nested object with the keys that lead to it; an empty object is a value."""
    found: list[tuple[tuple[str, ...], Any]] = []
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            found += leaves(value, (*above, key))
        else:
            found.append(((*above, key), value))
    return found


def nest(paths: Mapping[str, Any]) -> dict[str, Any]:
    """Values by path, with a dot between keys, as a nested object."""
    nested: dict[str, Any] = {}
    for path, value in paths.items():
        put(nested, tuple(path.split(".")), value)
    return nested


def put(nested: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Writes a value at nested keys, with an object wherever none is above it."""
    *parents, leaf = keys
    for parent in parents:
        if not isinstance(nested.get(parent), dict):
            nested[parent] = {}
        nested = nested[parent]
    nested[leaf] = value


def merge(base: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Writes what another object says into this one, and returns it."""
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value
    return base


def with_overrides(content: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a DeepSpeed JSON with values replaced by path, as this machine needs them."""
    return merge(deepcopy(dict(content)), nest(overrides))
