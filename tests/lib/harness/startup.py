"""What is done to a training that an interface starts, without that interface, its plan or its supervisor knowing."""

import os
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "startup"
"""Its ``sitecustomize.py`` is loaded by every Python that is started with it on the path."""


def _with(**environment: str) -> dict[str, str]:
    return {**environment, "PYTHONPATH": os.pathsep.join([str(FOLDER), os.environ["PYTHONPATH"]])}


def trained_by_stand_in(mode: str) -> dict[str, str]:
    """Environment in which ``harness.stand_in`` trains what is launched."""
    return _with(STARTUP_STAND_IN=mode)


def on_a_card_of(mib: int) -> dict[str, str]:
    """Environment in which torch gets so many MiB of a GPU in the training that is launched, and no more."""
    return _with(STARTUP_CARD_MIB=str(mib))


class Held:
    """A training that waits at the beginning of some phases, until each is let go, and after its first step."""

    def __init__(self, folder: Path, *phases: str) -> None:
        """Holds from the start.

        Args:
            folder: for what says so; made.
            phases: as events name them.
        """
        self._folder = folder
        folder.mkdir()
        self.environment = _with(STARTUP_HOLDS=str(folder))
        """Of the interface that launches it."""
        self.allow(1)
        for phase in phases:
            (folder / phase).touch()

    def allow(self, step: int) -> None:
        """It may go on, to the first progress that it tells from this step on."""
        (self._folder / "train").write_text(str(step))

    def let_go(self, phase: str) -> None:
        """It goes on; in ``train`` to the end."""
        (self._folder / phase).unlink(missing_ok=True)
