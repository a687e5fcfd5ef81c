"""What every screen works on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.machine.gpus import Reader, read_nvml
from simpletuner_tui.documents import Document
from simpletuner_tui.drafts import Drafts
from simpletuner_tui.session import Session
from simpletuner_tui.tui.glyphs import Glyphs, glyphs_here

if TYPE_CHECKING:
    from launcher.config.settings import Settings
    from launcher.preflight import Machine


@dataclass(slots=True)
class CardChoice:
    """The card that costs are held against, on whichever screen."""

    gigabytes: int | None = None
    """Of one that was chosen; None: this machine's own, as it is now."""


@dataclass(frozen=True, slots=True)
class CostBasis:
    """What the builder prices a configuration with."""

    around: "Settings"
    """The run that it belongs to."""
    machine: "Callable[[], Machine]"
    """What it would run on."""
    card: CardChoice
    assumed: str = ""
    """What of the run nobody said, in a few words."""


@dataclass(frozen=True, slots=True)
class SetUp:
    """One file in the making, and how it is shown."""

    session: Session
    document: Document
    drafts: Drafts
    gpus: Reader
    """The GPUs as they are now."""
    machine: "Callable[[], Machine]"
    """What it would run on."""
    base: Path
    """What relative paths count from."""
    run_dir: Callable[[], Path]
    """Where a run started now would lie."""
    glyphs: Glyphs
    card: CardChoice = field(default_factory=CardChoice)
    at_home: bool = False
    """Whether it begins at home, where one chooses what to begin with."""


def set_up(document: Document, session: Session) -> SetUp:
    """A new walk in the folder one is in, on this machine and this terminal."""
    return SetUp(
        session=session,
        document=document,
        drafts=document.drafts(),
        gpus=read_nvml,
        machine=this_machine,
        base=Path.cwd(),
        run_dir=_run_dir,
        glyphs=glyphs_here(),
        at_home=document.launches and not session.answers,
    )


def this_machine() -> "Machine":
    """What everything runs on unless a test says otherwise."""
    from launcher.preflight import Machine  # noqa: PLC0415 - not before the first screen is drawn

    return Machine()


def _run_dir() -> Path:
    from simpletuner_tui.launching import default_run_dir  # noqa: PLC0415 - asked for at the review, loaded then

    return default_run_dir("sdxl")
