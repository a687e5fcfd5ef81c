"""Where a configuration is saved, and what is said once it is."""

from pathlib import Path

from launcher.deepspeed.opening import INLINE
from launcher.deepspeed.writing import as_json, into_file
from simpletuner_tui.builder.model import Builder
from simpletuner_tui.saving import Saving, saving


def saving_of(builder: Builder, path: Path) -> Saving:
    """Looks what saving would replace, in whichever file the name leads to.

    Args:
        builder: what is saved.
        path: a file of its own, or one that holds a configuration among other things.

    Raises:
        InvalidInputError: none can be there.
    """
    return saving(*into_file(path, builder.config))


def saved_line(builder: Builder, planned: Saving) -> str:
    """What can be done with it now."""
    if planned.content == as_json(builder.config).encode():
        return f"Saved. deepspeed.initialize takes {planned.path} as it is."
    return f"Saved in {planned.path}, as its {INLINE}."
