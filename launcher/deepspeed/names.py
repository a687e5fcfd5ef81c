"""Optimizer names: those DeepSpeed has, had, and never had."""

from launcher.deepspeed.fields.optimizer import CANONICAL
from launcher.deepspeed.installed import Installed

FALLBACK = "AdamW"
"""What takes the place of an optimizer that cannot be had."""

_USUAL = {name.lower(): name for name in CANONICAL}
_CHOSEN_BY_DEEPSPEED = ("cpuadam", "fusedadam", "deepspeedcpuadam")


def settled_name(name: str, installed: Installed) -> tuple[str, str]:
    """The name DeepSpeed's own list has for an optimizer, and why it is another one than was written."""
    lower = name.strip().lower()
    if lower in installed.optimizers:
        return _USUAL.get(lower, lower), "DeepSpeed's spelling"
    if lower in _USUAL:
        return FALLBACK, (
            f"{_USUAL[lower]} is gone from DeepSpeed {installed.version or 'as tested here'}; {FALLBACK} instead"
        )
    if lower in _CHOSEN_BY_DEEPSPEED:
        return FALLBACK, f"{name} is no name of DeepSpeed's; it takes that class itself for {FALLBACK}"
    return FALLBACK, f"DeepSpeed has no optimizer {name}; {FALLBACK} instead"
