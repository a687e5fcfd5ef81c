"""Where what can be made again is kept."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder of this program's below ``XDG_CACHE_HOME``, or ``~/.cache``; it need not be there.

    Args:
        name: of what is kept.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "simpletuner-tui", name)
