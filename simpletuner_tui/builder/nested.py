"""Reading and editing nested objects by their keys, which may hold dots themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from launcher.deepspeed.view import ABSENT


def in_order_of(before: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """The same configuration with every key where it was: what the run fills in moves when a part of it is set."""
    keys = [*(key for key in before if key in config), *(key for key in config if key not in before)]
    return {
        key: in_order_of(before.get(key, {}), value)
        if isinstance(value := config[key], dict) and isinstance(before.get(key, {}), dict)
        else value
        for key in keys
    }


def at(config: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """What stands at the keys; ``ABSENT`` where nothing does."""
    value: Any = config
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return ABSENT
        value = value[key]
    return value


def remove(config: dict[str, Any], keys: Sequence[str]) -> None:
    """Takes a key out, and the sections that hold nothing without it."""
    above = at(config, keys[:-1])
    if isinstance(above, dict) and keys[-1] in above:
        del above[keys[-1]]
        if not above and len(keys) > 1:
            remove(config, keys[:-1])
