"""Blocks of features DeepSpeed has removed, where they were off anyway."""

from launcher.deepspeed.installed import Installed
from launcher.deepspeed.normalise.sheet import Sheet


def drop_idle(sheet: Sheet, installed: Installed) -> None:
    """DeepSpeed refuses these keys even where they say ``enabled: false``; nothing is lost with those."""
    for path in installed.removed:
        value = sheet.raw(path)
        if value is False or (isinstance(value, dict) and value.get("enabled") is False):
            sheet.remove(path, "removed from DeepSpeed, which refuses the key; it was off")
